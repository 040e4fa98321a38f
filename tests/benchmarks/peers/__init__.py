"""The strategies of CapyMOA and Avalanche behind Lethe's contract, for the same table as its learners."""

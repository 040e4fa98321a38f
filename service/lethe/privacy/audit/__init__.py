"""The ledger of discarded records, its witness and its verification."""

"""Privacy: policies, their enforcement, erasure, and the ledger that proves what was discarded."""

"""The ledger: one append-only, hash-chained table of everything that happened, and the questions it answers."""

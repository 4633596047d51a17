"""The model card of a version: what it is for, what it learnt from, how it was judged, and what it did since. From ledger and MLflow."""

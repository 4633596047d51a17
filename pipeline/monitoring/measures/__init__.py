"""Drift measures: one a file. Each compares every feature of two tables; pipeline/monitoring/drift.py lists them."""

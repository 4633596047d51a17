"""Drift measures: one a file. Each compares every feature of two tables; pipeline/monitoring/feature_limits.py lists them."""

"""Searches the options of an estimator by successive halving, on rows in the order of time."""

"""Fit, evaluate, package and sign a model."""

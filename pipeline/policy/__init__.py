"""Decisions. They touch nothing: facts in, a receipt out."""

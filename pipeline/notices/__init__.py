"""Tells people what happens: once for each matter, with what to do next."""

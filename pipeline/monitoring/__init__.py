"""Compares live traffic with the training data (drift), and live answers with the labels that arrived."""

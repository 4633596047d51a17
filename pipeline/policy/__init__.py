"""Decisions: functions from facts to a verdict or a receipt. They change nothing."""

"""Perennial: models that come back every season.

Retrain when it pays, release without dropping a request, know what it cost and what it earned.
"""

"""Airflow, MLflow and Traefik on one machine: settings, start, stop."""

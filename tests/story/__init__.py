"""Whole services: Airflow, MLflow and Traefik on one machine, and docker-compose.yaml on an engine. Each story runs alone."""

"""What follows each other on one set of services: a real Airflow, MLflow and Traefik, ended after the last of these tests."""

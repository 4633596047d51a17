"""The pages, as functions from a Context to HTML. The Airflow plugin serves them behind its login."""

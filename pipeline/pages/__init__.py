"""The pages, as functions from a Context to HTML; the Airflow plugin puts them behind its login."""

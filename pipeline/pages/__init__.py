"""The pages, as functions from a Setup to HTML; the Airflow plugin puts them behind its login."""

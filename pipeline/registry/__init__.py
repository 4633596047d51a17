"""All that talks to MLflow: registered versions, and the record that a run leaves."""

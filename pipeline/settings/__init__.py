"""What people and machines set: params.yaml and the environment, read once and typed."""

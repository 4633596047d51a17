"""When a model is retrained: pure functions from what is known of its versions' losses to retrain, go back or wait."""

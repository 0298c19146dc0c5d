"""From settings to a model and its training: rules, builders, the weights to start from."""

"""Training methods, found by presence: what decides the update of each layer."""

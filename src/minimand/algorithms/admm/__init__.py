"""Methods that split the objective in parts and keep multipliers."""

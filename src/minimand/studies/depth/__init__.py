"""Studies of depth: what initialization, normalization and structure decide."""

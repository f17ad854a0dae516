"""Studies of how networks are trained."""

"""Methods with momentum: one or several earlier states in each step."""

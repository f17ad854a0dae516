"""Studies of hard thresholds, in training and on bits."""

"""Studies of local learning: layer by layer, and all layers at once."""

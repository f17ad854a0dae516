"""Studies of networks that solve equations."""

"""Algorithms in disguise: which are the same network, how far apart others are, and what an unknown one is."""

"""Studies of language models whose layers are steps of an algorithm."""

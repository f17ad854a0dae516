"""Studies of skeletons: which algorithm a network is wired by."""

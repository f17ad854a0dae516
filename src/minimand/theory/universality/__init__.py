"""Which statements of universal approximation hold for the network that an algorithm gives: a theorem a file."""

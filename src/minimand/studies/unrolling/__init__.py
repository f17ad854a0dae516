"""Studies of unrolled algorithms whose objective is known."""

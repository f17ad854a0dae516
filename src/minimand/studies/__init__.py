"""Studies: one published table a file, found by presence."""

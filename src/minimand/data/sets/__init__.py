"""Named data sets, found by presence."""

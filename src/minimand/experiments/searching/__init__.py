"""Searches for coefficients and methods within the certified region."""

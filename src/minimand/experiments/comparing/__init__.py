"""Comparisons of algorithms over seeds, with equal budgets and rates tuned for each."""

"""Solvers of z = f(z), one a file."""

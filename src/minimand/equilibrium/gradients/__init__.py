"""Gradients of solutions, one a file."""

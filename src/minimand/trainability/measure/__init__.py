"""Measurements of one forward and one backward pass through any model."""

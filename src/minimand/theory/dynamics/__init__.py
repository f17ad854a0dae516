"""Algorithms as dynamical systems: their linear system, its poles, its responses, its order and its inverse."""

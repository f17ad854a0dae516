"""Initialization of any model by named schemes."""

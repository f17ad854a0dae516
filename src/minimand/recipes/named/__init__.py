"""Recipes by name, one file each, found by presence."""

"""Skeletons that were published for language models."""

"""Scaling rules: settings that fit any width, depth and skeleton, and the check that they do."""

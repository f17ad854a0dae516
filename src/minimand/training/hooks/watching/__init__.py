"""Hooks that watch a training, tell of it and may end it; a step they leave as it is."""

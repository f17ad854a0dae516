"""A run on disk: its folder, checkpoints, configuration and seeds."""

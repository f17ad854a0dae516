"""The training loop: problems, steps, events, evaluation."""

"""The cheapest way to run a stage: a straight-line program, chosen from the algorithm's kernel."""

"""Target propagation through hard thresholds (Friesen & Domingos 2018)."""

"""Feasible target propagation: hidden targets that make every unit's problem separable (Friesen & Domingos 2018)."""

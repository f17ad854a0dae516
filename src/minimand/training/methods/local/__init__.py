"""Local learning: each block of a network by a loss of its own (Belilovsky et al. 2019, 2020)."""

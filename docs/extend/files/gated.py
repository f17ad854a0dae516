"""A gated block."""

from torch import nn

from minimand.blocks.registry import BLOCKS, BlockFamily


def gated(width: int, hidden: int | None = None) -> nn.Sequential:
    """Linear-GLU-Linear: (N, width) to (N, width); half of the hidden units gate the others (Dauphin et al. 2017)."""
    hidden = hidden or width
    return nn.Sequential(nn.Linear(width, 2 * hidden), nn.GLU(), nn.Linear(hidden, width))


GATED = BLOCKS.add("gated", BlockFamily(gated, shape=(3, 6), options={"width": 6, "hidden": 5}))

"""The parity of bits: whether the number of ones is odd, on which every input has a say."""

from itertools import product

import torch

from ..._support.checks import check_number
from ..data import Data
from ..registry import data_set
from ..samples import Arrays


@data_set("parity")
def parity(bits: int = 8) -> Data:
    """Whether the number of ones among `bits` entries of -1 and 1 is odd. All 2^bits points, for training and test."""
    check_number("bits", bits, 1, 20, whole=True)
    points = torch.tensor(list(product((-1.0, 1.0), repeat=bits)))
    samples = Arrays(points, (points > 0).sum(1) % 2)
    return Data("parity", samples, samples, (bits,), classes=("even", "odd"), source="all points")

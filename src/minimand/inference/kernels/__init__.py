"""Arithmetic on activations of one bit."""

from .bits import Bits, pack_above, pool_any, unpack
from .convolution import Convolution, convolve, convolve_above, prepare
from .weights import PackedWeights, pack_weights

__all__ = [
    "Bits",
    "Convolution",
    "PackedWeights",
    "convolve",
    "convolve_above",
    "pack_above",
    "pack_weights",
    "pool_any",
    "prepare",
    "unpack",
]

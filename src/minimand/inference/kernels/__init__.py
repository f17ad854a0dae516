"""Arithmetic on activations of one bit."""

from .bits import Bits, pack_above, pool_any, unpack
from .convolution import convolve, convolve_above
from .weights import PackedWeights, pack_weights

__all__ = ["Bits", "PackedWeights", "convolve", "convolve_above", "pack_above", "pack_weights", "pool_any", "unpack"]

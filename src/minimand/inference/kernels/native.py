"""The operations on bits by our own kernels."""

from typing import Any, NoReturn

from torch import Tensor

Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, Pair]
Layout = Any


def takes(x: Tensor) -> bool:
    """Whether the kernels are there for a tensor of this device."""
    return False


def _absent(*_: Any) -> NoReturn:
    raise NotImplementedError


pack_above = unpack = pool_any = lay_out = convolve = convolve_above = _absent

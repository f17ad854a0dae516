"""What a function of numbers is, by its values: whether it acts on every entry alike, and its shape."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]

_DEGREE = 8  # polynomials of a higher degree are not told from other functions


@dataclass(frozen=True)
class Shape:
    """What the values of an activation tell; nothing where it does not take any numbers."""

    odd: float | None = None
    """The slope of act(t) - act(-t), where that is linear and not 0."""
    rectifies: bool = False
    """Whether the activation is ReLU, max(t, 0)."""
    degree: int | None = None
    """The degree of an activation that is a polynomial; None for any other."""


def is_activation(module: nn.Module) -> bool:
    """Whether a module without anything inside, weights or buffers, is one function of every entry."""
    parts = (module.children(), module.parameters(), module.buffers())
    # Its forward, as the tracer, which asks this, records calls of modules.
    return not any(next(iter(part), None) is not None for part in parts) and acts_by_entry(module.forward)


def acts_by_entry(function: Function) -> bool:
    """Whether a function acts on every entry alike: it is tried on some, fewer, and the same in another order."""
    t = torch.linspace(-3, 3, 24, dtype=torch.float64)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            values, some, turned = function(t.clone()), function(t[::3].clone()), function(t.flip(0))
            return values.shape == t.shape and _alike(values[::3], some) and _alike(values.flip(0), turned)
    except Exception:  # a function may want other sizes, another precision, or more arguments
        return False


def _alike(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-12, atol=0.0, equal_nan=True)  # kernels round the last few numbers otherwise


def read_shape(function: Function) -> Shape:
    """The shape of an activation, read off its values."""
    t = torch.linspace(-8, 8, 65, dtype=torch.float64)
    try:
        with torch.no_grad():
            values, mirrored = function(t.clone()).double(), function(-t).double()
    except Exception:  # a function may want other sizes, another precision, or more arguments
        return Shape()
    odd = values - mirrored
    slope = float(odd[-1] / t[-1])
    is_linear = abs(slope) > 1e-6 and torch.allclose(odd, slope * t, atol=1e-5)
    return Shape(slope if is_linear else None, torch.equal(values, t.clamp(min=0)), _degree(t, values))


def _degree(t: Tensor, values: Tensor) -> int | None:
    """The least degree of a polynomial that has these values; None where none of a low one has."""
    if not bool(values.isfinite().all()):
        return None
    x, y = t.numpy(), values.numpy()
    for degree in range(_DEGREE + 1):
        fit = np.polynomial.Chebyshev.fit(x, y, degree)
        if np.abs(fit(x) - y).max() <= 1e-9 * max(np.abs(y).max(), 1e-300):
            return degree
    return None

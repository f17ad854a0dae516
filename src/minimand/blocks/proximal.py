"""Proximal operators that are known in closed form."""

from torch import Tensor, nn

from .._support.errors import WrongTypeError


class Prox(nn.Module):
    """A module that answers a `prox` oracle: prox(v, s) minimizes g(p) + |p - v|^2 / (2 s) over p.

    The network of an algorithm with such blocks is explicit: algorithm unrolling.
    """

    def forward(self, point: Tensor, step_size: float | Tensor) -> Tensor:
        """The minimizer, of the shape of `point`."""
        raise WrongTypeError(f"{type(self).__name__} has no method forward(self, point, step_size).")

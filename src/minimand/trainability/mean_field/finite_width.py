"""Finite width, which mean-field theory leaves out: how widely networks scatter at initialization."""

from collections.abc import Sequence

from torch import nn

from ..._support.errors import MinimandError
from ...networks.kinds import layers

# What the kinds of layers call the number of their outputs.
_WIDTHS = ("out_features", "out_channels", "hidden_size", "embed_dim", "nf")


def fluctuation_beta(model: nn.Module) -> float:
    """The sum of 1 / width over the hidden layers of a plain network, which decides how widely it scatters.

    With ReLU and weights of variance 2 / fan_in, E |h|^4 / (E |h|^2)^2 is the product of 1 + 5 / width, the typical
    |h|^2 is about exp(-5 beta / 2) of its mean, and squared entries of the Jacobian scatter exponentially in beta
    (Hanin, 2018). Above 1/5, widen the network, or make its layers equally wide. Channels count as width, which is an
    upper bound for convolutions; skips, which make the scatter smaller, are not seen.

    Raises:
        ValueError: the model has no linear, convolutional, attention or recurrent layer.
    """
    modules = list(layers(model).values())
    if not modules:
        raise MinimandError(
            f"{type(model).__name__} has no linear layer and no convolution; their widths are what counts."
        )
    return beta_of(modules)


def beta_of(modules: Sequence[nn.Module]) -> float:
    """The sum of 1 / width over layers in their order, without the last, which is no hidden one."""
    return sum(1 / next(getattr(module, name) for name in _WIDTHS if hasattr(module, name)) for module in modules[:-1])

"""What a module of torch is: a layer, an activation, a normalization, a container. The one place that says so."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._support.errors import WrongTypeError
from .._support.torch.internals import AdaptiveAvgPoolNd, AdaptiveMaxPoolNd, ConvNd, NormBase
from ..layers.normalization import ByChannel, ByPosition
from ..layers.thresholds import Threshold

LINEAR_OR_CONVOLUTION = (nn.Linear, ConvNd)
"""Layers whose weight is one matrix, or one filter bank."""

RECURRENT = (nn.RNNBase, nn.RNNCellBase)
"""Recurrent layers, and the cells that they repeat."""

LAYERS = (*LINEAR_OR_CONVOLUTION, nn.Bilinear, nn.MultiheadAttention, *RECURRENT)
"""Layers: modules whose weights mix features."""

NORMALIZATIONS = (NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""Normalizations of activations, torch's own and those that derive from them."""

WRAPPED_NORMALIZATIONS = (*NORMALIZATIONS, ByPosition, ByChannel)
"""Normalizations, and the modules that apply one of them along another axis."""

_RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish)
# Gates, such as those of squeeze and excitation, are sigmoids: they scale and stay what they are.
ACTIVATIONS = (*_RECTIFIERS, nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.Softplus, nn.Softsign)
"""Activation modules that a hard threshold can take the place of."""

_OF_OTHERS = ("timm.layers.activations", "transformers.activations")
_KINDS_OF_OTHERS = ("elu", "silu", "swish", "mish", "tanh", "softplus", "laplace")  # "elu" is in relu and gelu too

_FUNCTIONAL = "celu elu gelu hardswish hardtanh leaky_relu mish relu relu6 selu silu softplus softsign"
ACTIVATION_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: getattr(F, name) for name in _FUNCTIONAL.split()},
    "arctan": torch.atan,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "sin": torch.sin,
    "tanh": torch.tanh,
    "linear": lambda h: h,
}
"""Activations that can be given by name, as functions that act number by number."""

# Modules in torch's file of activations that are no function of a single number.
_NOT_BY_ENTRY = (nn.MultiheadAttention, nn.GLU, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin)

POOLS = (nn.Flatten, nn.Identity, AdaptiveAvgPoolNd, AdaptiveMaxPoolNd, nn.AvgPool2d, nn.MaxPool2d)
"""Modules that belong to the head of a network where they stand just before its last layer."""

CONTAINERS = (nn.Sequential, nn.ModuleList)
"""Containers whose children may be the repeated blocks of a model."""


def is_layer(module: nn.Module) -> bool:
    """Whether the weights of a module mix features: what initialization and diagnosis speak of."""
    return isinstance(module, LAYERS) or is_transformers_linear(module)


def is_transformers_linear(module: nn.Module) -> bool:
    """Whether a module is `Conv1D` of transformers: the linear layer of GPT-2, whose weight is (in, out)."""
    return any((c.__module__, c.__name__) == ("transformers.pytorch_utils", "Conv1D") for c in type(module).__mro__)


def has_rows_of_inputs(layer: nn.Module) -> bool:
    """Whether the rows of a layer's weight are its inputs, not its outputs: of transposed convolutions and `Conv1D`."""
    return (isinstance(layer, ConvNd) and layer.transposed) or is_transformers_linear(layer)


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of a model by name, in the order of registration; a layer inside another is part of it."""
    outermost: dict[str, nn.Module] = {}
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module not in inside and is_layer(module):
            outermost[name] = module
            inside.update(module.modules())
    return outermost


def takes_a_threshold(module: nn.Module) -> bool:
    """Whether a hard threshold can take the place of a module: an activation of torch, timm or transformers."""
    kind = type(module)
    of_others = kind.__module__.startswith(_OF_OTHERS) and any(
        word in kind.__name__.lower() for word in _KINDS_OF_OTHERS
    )
    return kind in ACTIVATIONS or of_others


def is_activation(module: nn.Module) -> bool:
    """Whether a module applies one function to every number: an activation of torch, or a hard threshold."""
    of_torch = type(module).__module__ == "torch.nn.modules.activation" and not isinstance(module, _NOT_BY_ENTRY)
    return of_torch or isinstance(module, Threshold)


def starts_layer(module: nn.Module) -> bool:
    """Whether a module with parameters begins a layer of a chain: one that is no normalization and no activation."""
    belongs = isinstance(module, (*WRAPPED_NORMALIZATIONS, *ACTIVATIONS)) or is_activation(module)
    return not belongs and any(True for _ in module.parameters())


def normalizations(model: nn.Module) -> dict[str, nn.Module]:
    """The normalizations of activations in a model by name, in the order of registration."""
    return {name: module for name, module in model.named_modules() if isinstance(module, NORMALIZATIONS)}


def has_normalization(model: nn.Module) -> bool:
    return bool(normalizations(model))


def check_model(model: Any, name: str = "model") -> None:
    """Raise WrongTypeError unless an argument, by this name, is a module."""
    if not isinstance(model, nn.Module):
        raise WrongTypeError(f"{name} is {type(model).__name__}; expected a module.")


def count_parameters(model: nn.Module) -> int:
    """The number of parameters of a model; a shared one counts once."""
    return sum(parameter.numel() for parameter in model.parameters())

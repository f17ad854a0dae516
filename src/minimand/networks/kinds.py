"""What a module of torch is: a layer, an activation, a normalization, a container. The one place that says so."""

from typing import Any

from torch import nn

from .._support.errors import WrongTypeError
from .._support.torch_internals import ConvNd, NormBase
from ..layers.normalization import ByChannel, ByPosition

LINEAR_OR_CONVOLUTION = (nn.Linear, ConvNd)
"""Layers whose weight is one matrix, or one filter bank."""

LAYERS = (*LINEAR_OR_CONVOLUTION, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)
"""Layers: modules whose weights mix features."""

NORMALIZATIONS = (NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""Normalizations of activations, torch's own and those that derive from them."""

WRAPPED_NORMALIZATIONS = (*NORMALIZATIONS, ByPosition, ByChannel)
"""Normalizations, and the modules that apply one of them along another axis."""

# Gates, such as those of squeeze and excitation, are sigmoids: they scale and stay what they are.
ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Tanh,
    nn.Softplus,
    nn.Softsign,
)
"""Activation modules that a hard threshold can take the place of."""

CONTAINERS = (nn.Sequential, nn.ModuleList)
"""Containers whose children may be the repeated blocks of a model."""


def is_layer(module: nn.Module) -> bool:
    """Whether the weights of a module mix features: what initialization and diagnosis speak of."""
    return isinstance(module, LAYERS) or is_transformers_linear(module)


def is_transformers_linear(module: nn.Module) -> bool:
    """Whether a module is `Conv1D` of transformers: the linear layer of GPT-2, whose weight is (in, out)."""
    return any((c.__module__, c.__name__) == ("transformers.pytorch_utils", "Conv1D") for c in type(module).__mro__)


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of a model by name, in the order of registration; a layer inside another is part of it."""
    outermost: dict[str, nn.Module] = {}
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module not in inside and is_layer(module):
            outermost[name] = module
            inside.update(module.modules())
    return outermost


def has_normalization(model: nn.Module) -> bool:
    """Whether a model normalizes activations somewhere."""
    return any(isinstance(module, NORMALIZATIONS) for module in model.modules())


def check_model(model: Any) -> None:
    """Raise WrongTypeError unless `model` is a module."""
    if not isinstance(model, nn.Module):
        raise WrongTypeError(f"model is {type(model).__name__}; expected a module.")


def count_parameters(model: nn.Module) -> int:
    """The number of parameters of a model; a shared one counts once."""
    return sum(parameter.numel() for parameter in model.parameters())

"""The layers of a model in the order they run, each with its weights, their fans and the activation that it reads.

A fan is how many numbers a weight sums over, forward or backward. torch counts both from the shape alone, which is
wrong for grouped, transposed and strided convolutions.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError, unknown_name
from ..._support.torch.internals import ConvNd
from ...networks.kinds import ACTIVATION_FUNCTIONS, RECURRENT, is_activation, is_layer, is_transformers_linear, layers
from ..measure.flow import AppliedActivation
from ..measure.tracing import Branch, Trace

_PACKED = ("qkv", "in_proj", "query_key_value", "c_attn")
# Learned tokens of attention, which are no biases of a layer whatever their names.
_TOKENS = ("bias_k", "bias_v")


@dataclass(frozen=True)
class WeightBlock:
    """A part of a parameter that acts as one weight: a projection of packed attention, a gate, or all of it."""

    parameter: str
    """The name of the parameter within the layer."""
    rows: slice
    """The part of the parameter along its dimension of outputs, or of inputs of a transposed convolution."""
    fan_in: float
    fan_out: float
    groups: int = 1
    transposed: bool = False
    flipped: bool = False
    """Whether the parameter's first dimension is the input."""

    def of(self, parameter: Tensor) -> Tensor:
        """The block's part of its parameter: a view whose rows are outputs, or inputs of a transposed convolution."""
        return (parameter.T if self.flipped else parameter)[self.rows]

    def matrices(self, weight: Tensor) -> Tensor:
        """A tensor of the block's shape as matrices, (groups, outputs, inputs x taps): a view, or else a copy."""
        taps = weight.shape[2:].numel()
        if not self.transposed:
            return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)
        split = weight.reshape(self.groups, weight.shape[0] // self.groups, weight.shape[1], taps)
        return split.transpose(1, 2).reshape(self.groups, weight.shape[1], -1)

    def assign(self, weight: Tensor, matrices: Tensor) -> None:
        """Write matrices of the shape that `matrices` returns into a tensor of the block's shape."""
        if self.transposed:
            taps = weight.shape[2:].numel()
            matrices = matrices.reshape(self.groups, weight.shape[1], -1, taps).transpose(1, 2)
        with torch.no_grad():
            weight.copy_(matrices.reshape(weight.shape))


@dataclass(frozen=True)
class WeightedLayer:
    """A linear, convolutional, attention or recurrent layer whose weights are to be set."""

    name: str
    module: nn.Module
    reads: AppliedActivation | None
    """The activation whose output the layer reads; None for the batch, a sum or a normalization."""
    follows: AppliedActivation | None
    """The activation that the output of the layer goes to."""
    first: bool
    """Whether the layer reads the batch."""

    @property
    def recurrent(self) -> bool:
        """Whether the layer is a recurrent one, or the cell of one."""
        return isinstance(self.module, RECURRENT)

    def parameter(self, name: str) -> str:
        """The name of a parameter of this layer, within the model."""
        return f"{self.name}.{name}" if self.name else name

    def named(self, kind: Literal["weight", "bias"]) -> list[str]:
        """The names, within the model, of the weights of this layer, or of its biases."""
        if kind == "weight":
            parameters = dict.fromkeys(block.parameter for block in weight_blocks(self.module, self.name))
            return [self.parameter(name) for name in parameters]
        if not isinstance(self.module, (nn.MultiheadAttention, *RECURRENT)):
            return [self.parameter("bias")] if getattr(self.module, "bias", None) is not None else []
        names = [name for name, _ in self.module.named_parameters()]
        return [self.parameter(n) for n in names if "bias" in n and n not in _TOKENS and "parametrizations" not in n]


def weighted_layers(
    model: nn.Module, trace: Trace | None, activation: Any, needs_activation: bool
) -> Iterator[WeightedLayer]:
    """The layers of a model in the order they ran in a trace, or else of registration.

    Every layer but the first reads the activation given, or, if needed and without a trace, the only one of the model.
    """
    modules = layers(model)
    calls = {} if trace is None else trace.first
    order = [*calls, *(name for name in modules if name not in calls)]
    common = None if activation is None else _as_applied(activation)
    if common is None and trace is None and needs_activation and len(order) > 1:
        common = _only_activation(model)
    for i, name in enumerate(order):
        call = calls.get(name)
        if common is not None or call is None:
            first, last = i == 0, i == len(order) - 1
            yield WeightedLayer(name, modules[name], None if first else common, None if last else common, first)
        else:
            read_from = list(call.after.values())
            reads = None if None in read_from or not read_from else read_from[-1]
            yield WeightedLayer(name, modules[name], reads, call.activation, not read_from)


def _as_applied(activation: Any) -> AppliedActivation:
    if isinstance(activation, str):
        if activation not in ACTIVATION_FUNCTIONS:
            raise unknown_name("activation", activation, ACTIVATION_FUNCTIONS)
        return AppliedActivation(activation, ACTIVATION_FUNCTIONS[activation])
    if isinstance(activation, type) and issubclass(activation, nn.Module):
        activation = activation()
    if not callable(activation):
        raise MinimandError(f"activation is {activation!r}; expected a name or a function of a tensor.")
    name = getattr(activation, "__name__", type(activation).__name__).lower()
    return AppliedActivation(name, cast(Callable[[Tensor], Tensor], activation))


def _only_activation(model: nn.Module) -> AppliedActivation | None:
    """The one activation among the modules; None for a model of recurrent layers and at most one of another kind."""
    activations = {repr(module): module for module in model.modules() if is_activation(module)}
    names = list(dict.fromkeys(text.replace("inplace=True", "") for text in activations))
    if len(names) == 1:
        module = copy.deepcopy(next(iter(activations.values())))
        if hasattr(module, "inplace"):
            module.__dict__["inplace"] = False
        return AppliedActivation(type(module).__name__.lower(), module)
    plain_layers = [module for module in layers(model).values() if not isinstance(module, RECURRENT)]
    if not names and len(plain_layers) < 2:
        return None
    which = f"has several activations, {', '.join(names)}" if names else "has no module that is an activation"
    raise MinimandError(
        f"{type(model).__name__} {which}; say what its layers read by batch=, what the model is called with, or by "
        "activation=."
    )


def within_branches(
    model: nn.Module, weighted: Sequence[WeightedLayer], branches: Sequence[Branch]
) -> list[WeightedLayer]:
    """The layers, of which those in a branch read an activation only if one is registered just before them.

    Where none is registered in any branch, the first layer of each reads none, but the sum or a normalization.
    """
    after_activation: set[str] = set()
    activated = False
    for name, module in model.named_modules():
        activated = activated or is_activation(module)
        if is_layer(module):
            if activated:
                after_activation.add(name)
            activated = False
    inside = {name for branch in branches for name in branch.layers}
    without = inside - after_activation if inside & after_activation else {branch.layers[0] for branch in branches}
    return [replace(layer, reads=None) if layer.name in without else layer for layer in weighted]


def weight_blocks(module: nn.Module, name: str = "") -> list[WeightBlock]:
    """The blocks of a layer's weights; `name` tells a linear layer that packs query, key and value."""
    return list(_blocks(module, name))


def _blocks(module: nn.Module, name: str) -> Iterator[WeightBlock]:
    if isinstance(module, ConvNd):
        yield _convolution(module)
    elif isinstance(module, nn.Bilinear):
        fan_in = module.in1_features * module.in2_features
        yield WeightBlock("weight", slice(None), fan_in, module.out_features)
    elif isinstance(module, nn.Linear):
        yield from _linear(name, module.out_features, module.in_features)
    elif is_transformers_linear(module):
        inputs, outputs = cast(Tensor, module.weight).shape
        yield from (replace(block, flipped=True) for block in _linear(name, outputs, inputs))
    elif isinstance(module, nn.MultiheadAttention):
        size = module.embed_dim
        if module.in_proj_weight is not None:
            yield from _stacked("in_proj_weight", 3, 3 * size, size)
        else:
            for part, inputs in (("q", size), ("k", module.kdim), ("v", module.vdim)):
                yield WeightBlock(f"{part}_proj_weight", slice(None), inputs, size)
        yield WeightBlock("out_proj.weight", slice(None), size, size)
    elif isinstance(module, RECURRENT):
        for parameter, weight in module.named_parameters():
            if parameter.startswith("weight_hr"):
                yield WeightBlock(parameter, slice(None), weight.shape[1], weight.shape[0])
            elif parameter.startswith("weight"):
                yield from _stacked(parameter, weight.shape[0] // module.hidden_size, *weight.shape)


def _linear(name: str, outputs: int, inputs: int) -> Iterator[WeightBlock]:
    return _stacked("weight", 3 if name.endswith(_PACKED) and outputs == 3 * inputs else 1, outputs, inputs)


def _stacked(parameter: str, count: int, rows: int, columns: int) -> Iterator[WeightBlock]:
    size = rows // count
    for i in range(count):
        yield WeightBlock(parameter, slice(i * size, (i + 1) * size), columns, size)


def _convolution(module: ConvNd) -> WeightBlock:
    taps, strides = math.prod(module.kernel_size), math.prod(module.stride)
    fan_in = module.in_channels // module.groups * taps
    fan_out = module.out_channels // module.groups * taps
    # Of a strided kernel's taps an input meets one in `strides`; of a transposed one's an output does.
    if module.transposed:
        return WeightBlock("weight", slice(None), fan_in / strides, fan_out, module.groups, True)
    return WeightBlock("weight", slice(None), fan_in, fan_out / strides, module.groups)

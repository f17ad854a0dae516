"""The layers of a model in the order they run, each with the activation that it reads."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from torch import Tensor, nn

from ..._support.errors import MinimandError, unknown_name
from ...networks.kinds import ACTIVATION_FUNCTIONS, RECURRENT, is_activation, is_layer, layers
from ..measure.branches import Branch
from ..measure.flow import AppliedActivation
from ..measure.tracing import Trace
from .fans import weight_blocks

# Learned tokens of attention, which are no biases of a layer whatever their names.
_TOKENS = ("bias_k", "bias_v")


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

    Every layer but the first reads the activation, if one is given; without it and a trace, and if one is needed, the
    only activation among the modules.
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
    """The activation behind a name, a module, its class, or a function of a tensor."""
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

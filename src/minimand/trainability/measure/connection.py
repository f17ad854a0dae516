"""Connection: which parameters the output has a path back to, and where the path of the others is cut."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...networks.undisturbed import undisturbed
from .flow import BATCH, OUTSIDE, Cut, LayerCall, tensors
from .layer_stat import Measured
from .tracing import Trace, arguments

# Uses of a tensor that are innocent most of the time, so that another cut of the same tensor is blamed first.
_COMPARISONS = ("gt", "lt", "ge", "le", "eq", "ne", "greater", "less", "isnan", "isfinite", "logical_not", "bool")
_INTEGERS = ("argmax", "argmin", "argsort", "long", "int", "byte", "to", "type", "bincount")

_UNUSED = ("nothing that is made of it reaches the output with a gradient", "use it in forward, or remove it")
_SWALLOWED = (
    "a torch.autograd.Function behind it gives no gradient back",
    "let its backward return a gradient for every input that has one",
)


@dataclass(frozen=True)
class Disconnection:
    """A trainable parameter that gets no gradient from the output, and why."""

    parameter: str
    layer: str
    """The layer, or else the module, that holds the parameter; empty for the model itself."""
    unused: bool
    """Whether nothing of the parameter takes part in the output; else it does, but its gradient is cut off."""
    cause: str
    """What is done with the parameter or the layer's output, with the place in the source where that is known."""
    advice: str
    last: int = -1
    """The number of the last run of the layer, or -1."""


class Reached:
    """What a backward pass from some tensors would reach."""

    def __init__(self, starts: Iterable[Tensor]) -> None:
        self.nodes: set[Any] = set()
        self.leaves: set[Tensor] = set()
        self.custom = False
        """Whether a function with a backward of its own is on the way."""
        pending = []
        for start in starts:
            if start.grad_fn is not None:
                pending.append(start.grad_fn)
            elif start.requires_grad:
                self.leaves.add(start)
        while pending:
            node = pending.pop()
            if node in self.nodes:
                continue
            self.nodes.add(node)
            self.custom = self.custom or isinstance(node, torch.autograd.function.BackwardCFunction)
            variable = getattr(node, "variable", None)
            if isinstance(variable, Tensor):
                self.leaves.add(variable)
            pending += [after for after, _ in node.next_functions if after is not None]

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor in self.leaves or (tensor.grad_fn is not None and tensor.grad_fn in self.nodes)


def reached_by(output: Any) -> Reached | None:
    """What a model's output leads back to; None where it holds no tensor that is known here."""
    of_output = list(tensors(output))
    return Reached(of_output) if of_output else None


def disconnections(model: nn.Module, batch: Any, measured: Measured) -> tuple[Disconnection, ...]:
    """The trainable parameters that get no gradient from the output, in training mode neither, and why."""
    lost: Sequence[nn.Parameter] = measured.lost
    if lost:
        reached = _in_training_mode(model, batch)
        lost = [parameter for parameter in lost if reached is None or parameter not in reached.leaves]
    swallowed = (_explained(model, measured.trace, parameter) for parameter in measured.swallowed)
    return (
        *(_explained(model, measured.trace, parameter) for parameter in lost),
        *(replace(one, unused=False, cause=_SWALLOWED[0], advice=_SWALLOWED[1]) for one in swallowed),
    )


def _in_training_mode(model: nn.Module, batch: Any) -> Reached | None:
    """What the output in training mode leads back to: auxiliary heads may run only there. None if it cannot run."""
    args, kwargs = arguments(batch)
    with undisturbed(model), torch.enable_grad():
        try:
            return reached_by(model.train()(*args, **kwargs))
        except (RuntimeError, ValueError, TypeError):
            return None


def _explained(model: nn.Module, trace: Trace, parameter: nn.Parameter) -> Disconnection:
    name = next(name for name, p in model.named_parameters() if p is parameter)
    owner = name.rpartition(".")[0]
    calls = [call for call in trace.calls if any(p is parameter for p in call.module.parameters())]
    if calls:
        layer = "" if calls[-1].module is model else calls[-1].name
        cause, advice, unused = _of_calls(trace, calls)
        return Disconnection(name, layer, unused, cause, advice, calls[-1].index)
    if owner and owner not in trace.ran:
        return Disconnection(name, owner, True, "it never runs", "call it in forward, or remove it")
    cut = next((c for c in trace.cuts if parameter in c.parameters or owner in c.norms), None)
    # What an embedding gives counts as the batch, so a cut of the batch is looked for.
    if cut is None and not any(model.get_submodule(owner).children()):
        cut = next((c for c in trace.cuts if c.origins == {BATCH}), None)
    if cut is None:
        return Disconnection(name, owner, True, *_UNUSED)
    return Disconnection(name, owner, False, *_of_cut(cut))


def _of_calls(trace: Trace, calls: Sequence[LayerCall]) -> tuple[str, str, bool]:
    """Why a layer that ran gets no gradient, what to do, and whether its output is of no use."""
    if not any(call.grad_enabled for call in calls):
        advice = "run it outside of torch.no_grad(), or freeze it by requires_grad_(False)"
        return "it runs under torch.no_grad()", advice, False
    # The path may be cut behind a later layer that reads this one.
    behind = {call.index for call in calls}
    for call in trace.calls:
        if behind & set(call.after):
            behind.add(call.index)
    cuts = [cut for cut in trace.cuts if behind & cut.origins]
    if cuts:
        return *_of_cut(min(cuts, key=_innocence)), False
    dark = next((c for c in trace.calls if c.index in behind and not c.grad_enabled), None)
    if dark is not None:
        return f"{dark.name} runs on it under torch.no_grad()", "run that outside of torch.no_grad()", False
    return *_UNUSED, True


def _innocence(cut: Cut) -> int:
    """The rank of a use of a tensor by how often such a use means no harm: the least innocent is to blame."""
    ranks = [("numpy", "array", "tolist"), ("detach", "data"), OUTSIDE, _INTEGERS, _COMPARISONS]
    return next((rank for rank, names in enumerate(ranks) if cut.name in names), 2)


def _of_cut(cut: Cut) -> tuple[str, str]:
    """The cause and the advice for a graph that was cut at an operation."""
    place = f" ({cut.place})" if cut.place else ""
    if cut.name in OUTSIDE:
        return f"what it gives leaves torch by {cut.name}(){place}", "keep to functions of torch, which have gradients"
    if not cut.grad_enabled:
        return f"what it gives is used under torch.no_grad(){place}", "do that outside of torch.no_grad()"
    if cut.name in _COMPARISONS:
        advice = "give the step a gradient, straight through, as mm.Heaviside() has"
        return f"what it gives is only compared, by {cut.name}{place}, and a comparison has no gradient", advice
    if cut.name in _INTEGERS:
        return f"what it gives becomes integers by {cut.name}{place}", "use a function with a gradient, such as softmax"
    what = ".data" if cut.name == "data" else f"{cut.name}()"
    return f"what it gives is cut off by {what}{place}", f"take {what} away, or freeze what is before it"

"""Tracing: which layers of a model run, in which order, which activation follows each, and the residual branches."""

import copy
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..._support.errors import MinimandError, unknown_name
from ..._support.torch.internals import NormBase, own_parameters
from ...blocks import DenseLayer, Prox, Skip
from ...blocks.convnext import ConvNeXtBranch
from ...blocks.transformer import HalfStep, ParallelLayer, SecondHalfStep, WholeLayer
from ...equilibrium import Equilibrium
from ...layers.thresholds import Threshold
from ...networks.kinds import layers, normalizations
from ...networks.skeletons import Skeleton, skeletons
from ...networks.undisturbed import undisturbed
from ...theory.dynamics.response import block_gains, gains
from .flow import BATCH, AppliedActivation, Cut, DataFlowMode, LayerCall, LayerVisitor, Origins, tensors


@dataclass(frozen=True)
class Trace:
    """The layers of a model as one batch ran through them."""

    calls: tuple[LayerCall, ...]
    unused: tuple[str, ...]
    """The names of the layers that did not run."""
    output: Any
    sums: tuple[tuple[Origins, Origins], ...] = ()
    """Where two tensors that come from the batch were added: a skip and its branch, most often."""
    cuts: tuple[Cut, ...] = ()
    """Where values were made of a tensor with a gradient that have none."""
    ran: frozenset[str] = frozenset()
    """The names of the modules with parameters of their own that ran, outside of layers."""
    attends: bool = False
    """Whether softmax or attention was computed outside of layers, or by a layer of attention."""

    @property
    def first(self) -> dict[str, LayerCall]:
        """The first run of each layer, by name, in the order of execution."""
        return {call.name: call for call in self.calls if call.run == 0}

    @property
    def runs(self) -> dict[str, int]:
        """The number of times that each layer ran, by name."""
        return {name: sum(call.name == name for call in self.calls) for name in self.first}


@dataclass(frozen=True)
class Branch:
    """A residual branch: layers whose output is added to a skip, by name."""

    layers: tuple[str, ...]
    """The layers inside the branch, in order."""
    ends: tuple[str, ...]
    """The layers whose output is added."""
    norm: str | None = None
    """A normalization after the last layer."""
    factor: str | None = None
    """A parameter that multiplies what is added, such as a layer scale."""
    gain: float = 1.0
    """How strongly the branch reaches the output of the network, or of its stage, at the start: the root of the sum of
    squares over what it is asked for."""
    reach: float = 1.0
    """How strongly a change of the branch reaches the output: all that it is asked for in one layer changes alike."""
    calls: int = 1
    """The number of times that the branch runs in a pass: several where its layers are shared."""
    after_norm: str | None = None
    """A normalization of the sum that the branch is added to, which its skip has passed too."""


def trace(
    model: nn.Module, batch: Any, visit: LayerVisitor | None = None, skips: Callable[[nn.Module], bool] | None = None
) -> Trace:
    """Run a batch through a model, in its mode, and note which layers ran, in which order, and what followed each.

    Hooks are taken off, and mode, buffers and random state put back, also when the model raises. Activations are found
    where a torch function computes them; one written out by hand is seen as its parts (x * sigmoid(x) as a sigmoid).
    `visit` is given each call, whose `activation` is not known by then, and the first tensor that the layer returned;
    what it returns takes that tensor's place. Calls that `skips` tells of are not noted, by default `while_solving`.
    """
    check_parameters(model)
    args, kwargs = arguments(batch)
    flow = DataFlowMode(visit, while_solving(model) if skips is None else skips)
    modules = layers(model)
    if not modules:
        kinds = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
        raise MinimandError(
            f"{type(model).__name__} has no layer to trace: expected a linear, convolutional, attention or recurrent "
            f"module. Found {kinds}."
        )
    with undisturbed(model), ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(flow.enter).remove)
            hook = functools.partial(flow.leave, name)
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        ran: set[str] = set()
        for name, module in model.named_modules():
            if own_parameters(module):
                note = functools.partial(_note, ran, name)
                stack.callback(module.register_forward_pre_hook(note).remove)
        for name, module in normalizations(model).items():
            stack.callback(module.register_forward_hook(functools.partial(flow.normalized, name)).remove)
        for module in model.modules():
            if isinstance(module, Threshold):
                applied = AppliedActivation(type(module).__name__.lower(), copy.deepcopy(module), repr(module))
                stack.callback(module.register_forward_hook(functools.partial(flow.thresholded, applied)).remove)
            if isinstance(module, Equilibrium):
                flow.watch_solver(module, stack)
        flow.begin((args, kwargs))
        with flow:
            output = model(*args, **kwargs)
    called = {call.name for call in flow.calls}
    unused = tuple(name for name in modules if name not in called)
    attends = flow.attends or any(isinstance(call.module, nn.MultiheadAttention) for call in flow.calls)
    return Trace(tuple(flow.calls), unused, output, tuple(flow.sums), tuple(flow.cuts), frozenset(ran), attends)


def while_solving(model: nn.Module) -> Callable[[nn.Module], bool]:
    """A test for the calls of a layer by the solver of an equilibrium, where gradients are recorded outside of it.

    What is measured of such a layer is its call at the solution, through which gradients go.
    """
    parts, is_recorded = solved(model), torch.is_grad_enabled()
    return lambda layer: is_recorded and layer in parts and not torch.is_grad_enabled()


def solved(model: nn.Module) -> set[nn.Module]:
    """The modules of a model that the solver of an equilibrium calls as often as it needs."""
    return {part for module in model.modules() if isinstance(module, Equilibrium) for part in module.block.modules()}


def telling_solutions(model: nn.Module) -> torch.set_grad_enabled:
    """A context for `trace` in which gradients are recorded only where `while_solving` needs it: they cost memory."""
    return torch.set_grad_enabled(bool(solved(model)))


def _note(ran: set[str], name: str, module: nn.Module, args: Any) -> None:
    """A forward pre-hook that notes the name of its module."""
    ran.add(name)


def measured(model: nn.Module) -> None:
    """Put a model, inside `undisturbed`, in the mode for measuring: no dropout, normalization by the batch."""
    model.eval()
    for module in model.modules():
        if isinstance(module, NormBase):
            module.train()


def arguments(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the named arguments that a batch stands for; one that is empty or not finite is an error."""
    named = dict(batch) if isinstance(batch, Mapping) else {}
    listed = () if isinstance(batch, Mapping) else tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    inputs = list(tensors((listed, named)))
    if not inputs:
        raise MinimandError(f"batch is {type(batch).__name__}; expected a tensor, or a tuple or mapping of arguments.")
    for tensor in inputs:
        if tensor.numel() == 0:
            raise MinimandError(f"batch has a tensor of shape {tuple(tensor.shape)}; expected at least one sample.")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            bad = int((~tensor.isfinite()).sum())
            raise MinimandError(
                f"batch has {bad} entries that are not finite, in a tensor of shape {tuple(tensor.shape)}."
            )
    return listed, named


@contextmanager
def explained(model: nn.Module, batch: Any) -> Iterator[None]:
    """Raise MinimandError, with the shapes of the batch, where the model cannot take it."""
    try:
        yield
    except (RuntimeError, IndexError, ValueError) as error:
        too_few = "more than 1 value per channel" in str(error)
        if batch is None or (isinstance(error, ValueError) and not too_few):
            raise
        shapes = " and ".join(f"shape {tuple(tensor.shape)}" for tensor in tensors(batch))
        advice = " Normalization by the batch needs two samples or more." if too_few else ""
        raise MinimandError(f"{type(model).__name__} fails on a batch of {shapes}: {error}.{advice}") from error


def check_parameters(model: nn.Module) -> None:
    """Raise MinimandError if a parameter has no shape or no values yet."""
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise MinimandError(f"{name} is lazy: it has no shape yet. Call the model on a batch once, then come back.")
        if parameter.is_meta:
            raise MinimandError(
                f"{name} is on the meta device: it has no values. Make the model on a real one (`to_empty`)."
            )


def broken_parameters(model: nn.Module) -> list[str]:
    """The names of the parameters that have values which are not finite."""
    named = [(name, p) for name, p in model.named_parameters() if p.is_floating_point()]
    finite = torch.stack([p.detach().isfinite().all().cpu() for _, p in named]).tolist() if named else []
    return [name for (name, _), fine in zip(named, finite, strict=True) if not fine]


def branches(model: nn.Module, trace: Trace | None = None, declared: Iterable[str] = ()) -> list[Branch]:
    """The branches of a model, in order: declared by name; of our stages, with their gains; or seen in a trace."""
    names = [declared] if isinstance(declared, str) else list(declared)
    if names:
        modules = dict(model.named_modules())
        for name in names:
            if name not in modules:
                raise unknown_name(f"module of {type(model).__name__} in branches", name, modules)
        return [_ending_last(name, modules[name]) for name in names]
    stages = [skeleton for skeleton in skeletons(model) if not skeleton.is_wired]
    if stages:
        return _once(model, (branch for stage in stages for branch in _of_stage(stage)))
    return [] if trace is None else _once(model, _of_trace(model, trace))


def total_gain(residual: Sequence[Branch]) -> float:
    """The root of the sum of squared gains of branches: sqrt(depth) where each reaches the output as it is."""
    return math.sqrt(sum(branch.gain**2 for branch in residual))


def _of_stage(stage: Skeleton) -> Iterator[Branch]:
    by_call, by_block = gains(stage.learned, stage.depth), block_gains(stage.learned, stage.depth)
    # A layer may ask several times, and several blocks: its answers are shared among them.
    calls = len(by_call) // stage.depth
    for k, (name, layer_block) in enumerate(zip(stage.names, stage.blocks, strict=True)):
        blocks = {name: layer_block}
        if isinstance(layer_block, nn.ModuleDict):
            blocks = {f"{name}.{oracle}": block for oracle, block in layer_block.items()}
        gain = math.sqrt(sum(float(g) ** 2 for g in by_call[k * calls : (k + 1) * calls]) / len(blocks))
        for (path, block), reach in zip(blocks.items(), by_block[k], strict=True):
            if isinstance(block, DenseLayer | Prox) or (stage.binding == "operator" and not isinstance(block, Skip)):
                continue
            path, branch = (f"{path}.branch", block.branch) if isinstance(block, Skip) else (path, block)
            if layers(branch):
                yield _ending_last(path, branch, *_whole(stage, k, branch, gain, float(reach)))


def _whole(stage: Skeleton, k: int, branch: nn.Module, gain: float, reach: float) -> tuple[float, float]:
    """The gain and the reach of a branch; of one that gives half an answer in two steps, those of both."""
    if not isinstance(branch, HalfStep):
        return gain, reach
    again = next(i for i, block in enumerate(stage.blocks) if _asks_again(block, branch))
    by_call, by_block = gains(stage.learned, stage.depth), block_gains(stage.learned, stage.depth)
    calls = len(by_call) // stage.depth
    squares = sum(float(g) ** 2 for i in (k, again) for g in by_call[i * calls : (i + 1) * calls])
    return math.sqrt(squares) / 2, float(by_block[k].sum() + by_block[again].sum()) / 2


def _asks_again(block: nn.Module, first: HalfStep) -> bool:
    inner = block.branch if isinstance(block, Skip) else block
    return isinstance(inner, SecondHalfStep) and inner.first[0] is first


def _ending_last(name: str, module: nn.Module, gain: float = 1.0, reach: float = 1.0) -> Branch:
    """The branch that a module is: it ends in its last layer, or the normalization after it."""
    inside = [f"{name}.{inner}".rstrip(".") for inner in layers(module)]
    if not inside:
        raise MinimandError(f"{name} has no layer; branches names modules whose output is added to a skip.")
    ends = [inside[-1]]
    if isinstance(module, WholeLayer | ParallelLayer):
        ends.insert(0, f"{name}.attend.inner.project")
    norm = None
    if not isinstance(module, WholeLayer | ParallelLayer | ConvNeXtBranch):
        order = [f"{name}.{inner}".rstrip(".") for inner, _ in module.named_modules()]
        norms = {f"{name}.{inner}" for inner in normalizations(module)}
        norm = next((path for path in reversed(order[order.index(inside[-1]) + 1 :]) if path in norms), None)
    factors = [leaf for leaf, _ in module.named_parameters(recurse=False) if leaf in ("gamma", "layer_scale")]
    return Branch(tuple(inside), tuple(ends), norm, f"{name}.{factors[0]}" if factors else None, gain, reach)


def _once(model: nn.Module, branches: Iterable[Branch]) -> list[Branch]:
    """Branches, of which those that end in the same parameters are one: its answers, and their changes, are alike."""
    modules = dict(model.named_modules(remove_duplicate=False))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    by_end: dict[tuple[Any, ...], Branch] = {}
    for branch in branches:
        ends = tuple(modules[name] for name in branch.ends)
        end = ends, modules.get(branch.norm or ""), parameters.get(branch.factor or "")
        other = by_end.get(end)
        by_end[end] = (
            branch
            if other is None
            else replace(
                other,
                layers=tuple(dict.fromkeys(other.layers + branch.layers)),
                gain=other.gain + branch.gain,
                reach=other.reach + branch.reach,
                calls=other.calls + branch.calls,
                after_norm=other.after_norm or branch.after_norm,
            )
        )
    return list(by_end.values())


def _of_trace(model: nn.Module, trace: Trace) -> Iterator[Branch]:
    parameters = {id(parameter): name for name, parameter in model.named_parameters()}
    before: list[set[int]] = []

    def upstream(part: Iterable[int]) -> set[int]:
        return set().union(*(before[i] for i in part if i != BATCH))

    for call in trace.calls:
        sources = set(call.after) or {BATCH}
        before.append(sources | upstream(sources))

    for first, second in trace.sums:
        skip, branch = (first, second) if set(first) & upstream(second) else (second, first)
        # Or else a projected skip, a single layer: whatever it reads, the branch begins with.
        if not set(skip) & upstream(branch):
            skip, branch = sorted((first, second), key=lambda part: len(upstream(part)))
            if len(skip) != 1 or not set(trace.calls[next(iter(skip))].after) <= upstream(branch) or BATCH in branch:
                continue
        inside = sorted((upstream(branch) | set(branch)) - upstream(skip) - set(skip) - {BATCH})
        if not inside or BATCH in branch:
            continue
        ends = [i for i in sorted(branch) if i in inside]
        since = branch[ends[-1]]
        yield Branch(
            tuple(dict.fromkeys(trace.calls[i].name for i in inside)),
            tuple(dict.fromkeys(trace.calls[i].name for i in ends)),
            since.norm,
            None if since.scale is None else parameters.get(id(since.scale)),
            after_norm=next(iter(skip.values())).norm if len(skip) > 1 else None,
        )

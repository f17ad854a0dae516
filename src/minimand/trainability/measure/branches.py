"""Residual branches: what a model adds to skips, and where the size of it can be set."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from ..._support.errors import MinimandError, unknown_name
from ...blocks.convnext import ConvNeXtBranch
from ...blocks.convolutional import Skip
from ...blocks.densely_connected import DenseLayer
from ...blocks.proximal import Prox
from ...blocks.transformer import TransformerBranch
from ...networks.kinds import layers, normalizations
from ...networks.skeletons import Skeleton, skeletons
from ...theory.dynamics.response import gains
from .flow import BATCH
from .tracing import Trace


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
    """How strongly the branch reaches the output of the network, or of its stage."""


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
        return [branch for stage in stages for branch in _of_stage(stage)]
    return [] if trace is None else list(_of_trace(model, trace))


def total_gain(residual: Sequence[Branch]) -> float:
    """The root of the sum of squared gains of branches: sqrt(depth) where each reaches the output as it is."""
    return math.sqrt(sum(branch.gain**2 for branch in residual))


def _of_stage(stage: Skeleton) -> Iterator[Branch]:
    reach = gains(stage.learned, stage.depth)
    # A layer may ask several times, and several blocks: its answers are shared among them.
    calls = len(reach) // stage.depth
    for k, (name, layer_block) in enumerate(zip(stage.names, stage.blocks, strict=True)):
        blocks = {name: layer_block}
        if isinstance(layer_block, nn.ModuleDict):
            blocks = {f"{name}.{oracle}": block for oracle, block in layer_block.items()}
        gain = math.sqrt(sum(float(g) ** 2 for g in reach[k * calls : (k + 1) * calls]) / len(blocks))
        for path, block in blocks.items():
            if isinstance(block, DenseLayer | Prox) or (stage.binding == "operator" and not isinstance(block, Skip)):
                continue
            path, branch = (f"{path}.branch", block.branch) if isinstance(block, Skip) else (path, block)
            if layers(branch):
                yield _ending_last(path, branch, gain)


def _ending_last(name: str, module: nn.Module, gain: float = 1.0) -> Branch:
    """The branch that a module is: it ends in its last layer, or the normalization after it."""
    inside = [f"{name}.{inner}".rstrip(".") for inner in layers(module)]
    if not inside:
        raise MinimandError(f"{name} has no layer; branches names modules whose output is added to a skip.")
    ends = [inside[-1]]
    if isinstance(module, TransformerBranch):
        ends.insert(0, f"{name}.attention.project")
    norm = None
    if not isinstance(module, TransformerBranch | ConvNeXtBranch):
        order = [f"{name}.{inner}".rstrip(".") for inner, _ in module.named_modules()]
        norms = {f"{name}.{inner}" for inner in normalizations(module)}
        norm = next((path for path in reversed(order[order.index(inside[-1]) + 1 :]) if path in norms), None)
    factors = [leaf for leaf, _ in module.named_parameters(recurse=False) if leaf in ("gamma", "layer_scale")]
    return Branch(tuple(inside), tuple(ends), norm, f"{name}.{factors[0]}" if factors else None, gain)


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
        )

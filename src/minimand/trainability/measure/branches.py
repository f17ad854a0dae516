"""The residual branches of a model: what is added to a skip, and where its size can be set."""

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
from ...networks.kinds import NORMALIZATIONS, layers
from ...networks.unrolled import Layer, Unrolled
from ...theory.dynamics.response import gains
from .flow import BATCH, Origins
from .tracing import Trace


@dataclass(frozen=True)
class Branch:
    """What is added to a skip."""

    layers: tuple[str, ...]
    """In order."""
    ends: tuple[str, ...]
    """The layers whose output is added."""
    norm: str | None = None
    """A normalization after the last one."""
    factor: str | None = None
    """A parameter that multiplies the sum's part, such as a layer scale."""
    gain: float = 1.0
    """How strongly the branch reaches the output of the network, or of its stage."""


def branches(model: nn.Module, trace: Trace | None = None, declared: Iterable[str] = ()) -> list[Branch]:
    """The branches of a model, in order: of the stages of our networks; declared by name; or seen in a trace.

    Those of a stage carry the gains of its algorithm.
    """
    names = [declared] if isinstance(declared, str) else list(declared)
    if names:
        modules = dict(model.named_modules())
        for name in names:
            if name not in modules:
                raise unknown_name(f"module of {type(model).__name__} in branches", name, modules)
        return [_ending_last(name, modules[name]) for name in names]
    if any(isinstance(module, Unrolled) for module in model.modules()):
        return list(_of_stages(model))
    return [] if trace is None else list(_of_trace(model, trace))


def total_gain(found: Sequence[Branch]) -> float:
    """The root of the sum of the squared gains: sqrt(depth) where every branch reaches the output as it is."""
    return math.sqrt(sum(branch.gain**2 for branch in found))


def _of_stages(model: nn.Module) -> Iterator[Branch]:
    for name, stage in model.named_modules():
        if not isinstance(stage, Unrolled):
            continue
        reach = gains(stage.learned(), len(stage.layers))
        # A layer may ask several times, and several blocks: its answers are shared among them.
        calls = len(reach) // len(stage.layers)
        for k, layer in enumerate(stage.layers):
            assert isinstance(layer, Layer)
            own = layer.block
            parts = own.items() if isinstance(own, nn.ModuleDict) else [("", own)]
            gain = math.sqrt(sum(float(g) ** 2 for g in reach[k * calls : (k + 1) * calls]) / len(parts))
            for part, block in parts:
                path = f"{name}.layers.{k}.block".removeprefix(".") + f".{part}" * bool(part)
                skips = isinstance(block, Skip)
                if isinstance(block, DenseLayer | Prox) or (stage.binding == "operator" and not skips):
                    continue
                inner = block.branch if isinstance(block, Skip) else block
                if layers(inner):
                    yield _ending_last(path + ".branch" * skips, inner, gain)


def _ending_last(name: str, module: nn.Module, gain: float = 1.0) -> Branch:
    """The branch that a module is: it ends in its last layer, or the normalization after it."""
    found = [f"{name}.{inner}".rstrip(".") for inner in layers(module)]
    if not found:
        raise MinimandError(f"{name} has no layer; branches names modules whose output is added to a skip.")
    ends = [found[-1]]
    if isinstance(module, TransformerBranch):
        ends.insert(0, f"{name}.attention.project")
    order = [
        f"{name}.{inner}".rstrip(".") for inner, m in module.named_modules() if isinstance(m, NORMALIZATIONS) or inner
    ]
    norms = {f"{name}.{inner}" for inner, m in module.named_modules() if isinstance(m, NORMALIZATIONS)}
    after = [inner for inner in order[order.index(found[-1]) + 1 :] if inner in norms] if found[-1] in order else []
    norm = after[-1] if after and not isinstance(module, TransformerBranch | ConvNeXtBranch) else None
    factor = next(
        (f"{name}.{p}" for p, _ in module.named_parameters(recurse=False) if p in ("gamma", "layer_scale")), None
    )
    return Branch(tuple(found), tuple(ends), norm, factor, gain)


def _of_trace(model: nn.Module, trace: Trace) -> Iterator[Branch]:
    parameters = {id(parameter): name for name, parameter in model.named_parameters()}
    before: list[set[int]] = []
    for call in trace.calls:
        sources = set(call.after) or {BATCH}
        before.append(sources.union(*(before[i] for i in sources if i != BATCH)))

    def upstream(part: Origins) -> set[int]:
        return set().union(*(before[i] for i in part if i != BATCH))

    for left, right in trace.sums:
        skip, branch = (left, right) if set(left) & upstream(right) else (right, left)
        # Or else a projected skip, a single layer: whatever it reads, the branch begins with.
        if not set(skip) & upstream(branch):
            skip, branch = sorted((left, right), key=lambda part: len(upstream(part)))
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

"""All modules of a network at once, each by a loss of its own: decoupled greedy learning (Belilovsky et al. 2020)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ...._support.checks import check_number
from ...._support.errors import MinimandError
from ...._support.torch.flops import FlopCounter
from ...._support.torch.internals import tree_flatten, tree_leaves, tree_map, uncompiled
from ...._support.torch.modes import evaluation_mode
from ...._support.torch.seeds import seeded_apart
from ....layers import PredictionSimilarity
from ....networks import as_network, compiled
from ...distributed.pipeline import Buffer, Pipeline, SentState
from ...distributed.processes import broadcast_object, world_size
from ...loop.losses import Loss
from ...loop.problems import Plan, Problem
from ...loop.state_batch import StateBatch
from .._registry import METHODS
from ..method import Method, descend
from .heads import Heads, LocalAuxiliary, auxiliary_sources, check_processes
from .partition import Block, divided_into


@METHODS.register("decoupled")
@dataclass(frozen=True)
class Decoupled(Method):
    """Train all modules of a network at once, each below an auxiliary classifier, with no gradient from one to another.

    In every step module j is given what module j - 1 made of the batch before its own update, and takes the gradient
    of its own loss; the last module's classifier is the network's head, so that the trained model is the network. The
    stem belongs to the first module. Activations are kept of one module at a time.

    Under torchrun the modules are spread over the processes, neighbours together and about as many operations to each,
    and work on successive batches at the same time. The losses are those of one process, to the same bits, unless
    there is a buffer: then a rank does not wait for the one before it, but trains on batches that it has.
    """

    hidden_layers: int = 1
    auxiliary: LocalAuxiliary = "mlp_sr"
    auxiliary_width: int | None = None
    """The channels, or units, of an auxiliary head's hidden layers; by default those of what the head looks at."""
    block_size: int = 1
    """The number of layers in a module."""
    modules: int | None = None
    """The number of modules, with about as many layers each; in the place of `block_size`."""
    buffer: int | None = None
    """Batches that a rank keeps of those it is sent; it reads the newest of the least used ones. None: each is used
    once, in order."""
    max_reuse: int | None = None
    """The number of times that a batch is read, at most, while others are still to come."""

    references: ClassVar[tuple[str, ...]] = ("belilovsky2020decoupled",)
    distributed: ClassVar = "modules"

    def __post_init__(self) -> None:
        for name in ("hidden_layers", "block_size", "auxiliary_width", "buffer", "max_reuse"):
            if getattr(self, name) is not None or name in ("hidden_layers", "block_size"):
                check_number(f"Decoupled.{name}", getattr(self, name), 1, math.inf, whole=True)
        if self.modules is not None:
            check_number("Decoupled.modules", self.modules, 2, math.inf, whole=True)
            if self.block_size != 1:
                raise MinimandError(
                    f"Decoupled.modules is {self.modules} and block_size {self.block_size}; expected one of them."
                )
        if self.max_reuse is not None and self.buffer is None:
            raise MinimandError(f"Decoupled.max_reuse is {self.max_reuse}, but nothing is kept; expected a buffer.")
        if sources := auxiliary_sources("Decoupled", self.auxiliary):
            object.__setattr__(self, "references", (*self.references, *sources))

    @property
    def takes_penalties(self) -> bool:
        return self.auxiliary != "predsim"  # of whose loss a share is taken

    def check(self, world_size: int) -> None:
        check_processes("Decoupled", self.auxiliary, world_size)
        if world_size == 1 and self.buffer is not None:
            raise MinimandError(
                f"Decoupled.buffer is {self.buffer}, but in one process modules take turns and none waits; expected "
                "None, or several processes: torchrun --nproc-per-node 2 -m -- minimand train ..."
            )

    def plan(self, model: nn.Module, example: Callable[[], Tensor], num_outputs: int, epochs: int) -> Plan:
        """The one problem of training all modules at once; under torchrun those of this rank."""
        x, ranks = example(), world_size()
        network = as_network(model, x)
        blocks, shapes = divided_into(model, network, self.block_size, self.modules, x)
        if ranks > len(blocks):
            raise MinimandError(
                f"torchrun started {ranks} processes, but {type(model).__name__} has {len(blocks)} modules to spread "
                f"over them; expected --nproc-per-node {len(blocks)} or fewer."
            )
        options = (num_outputs, self.hidden_layers, self.auxiliary_width)
        maker = Heads(self.auxiliary, model, network, blocks, shapes, x, *options)
        heads = nn.ModuleList(maker.make(j) for j in range(len(blocks) - 1))
        parts = [Part(network, block, head) for block, head in zip(blocks, [*heads, None], strict=True)]
        saved = nn.ModuleDict({"model": model, "heads": heads})
        if ranks == 1:
            group = Group(parts, 0, num_outputs)
            return Plan([Problem(group, group, epochs)], saved)
        pipeline, group = self._placed(parts, x, ranks, num_outputs)
        saved.load_state_dict(broadcast_object(saved.state_dict()))
        return Plan([Problem(group, group, epochs)], saved, world=pipeline)

    def _placed(self, parts: Sequence["Part"], x: Tensor, ranks: int, num_outputs: int) -> tuple[Pipeline, "Group"]:
        costs, specs = _costs(parts, x)
        places = balanced(costs, ranks)[::-1]  # rank 0 has the last ones
        groups = [Group([parts[j] for j in place], place.start, num_outputs) for place in places]
        _check_apart(groups)
        device = next(parts[0].parameters()).device
        buffer = None if self.buffer is None else Buffer[Any](self.buffer, self.max_reuse)
        pipeline = Pipeline(groups, [specs[place.start] for place in places], device, buffer)
        group = groups[pipeline.rank]
        group.pipeline = None if pipeline.is_last else pipeline
        return pipeline, group

    def backward(self, model: nn.Module, x: Tensor | StateBatch, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Fill the gradients of every module by its own loss; the loss and outputs returned are the last module's."""
        group = cast(Group, uncompiled(model))
        forwards = group.each if group is model else group.compiled
        state: Any = x.state if isinstance(x, StateBatch) else x
        seed = int(torch.randint(2**62, ())) if not isinstance(x, SentState) or x.seed is None else x.seed
        values: list[Tensor] = []
        outputs = torch.empty(0)
        for number, (part, forward) in enumerate(zip(group.each, forwards, strict=True), group.first):
            # What a module draws is the same in another process.
            with seeded_apart(seed + number, x.device):
                state, outputs, compared = forward(state)
                value = loss(outputs, y)
                if compared is not None:
                    value = cast(PredictionSimilarity, part.head).mixed(value, compared, y, outputs.shape[1])
                state = tree_map(torch.Tensor.detach, state)
                if group.pipeline is not None and number + 1 == group.first + len(forwards):
                    group.pipeline.send(state, y, seed)
                value, outputs = descend(value, outputs)
            values.append(value)
        is_finite = torch.stack([value.isfinite() for value in values]).all()
        return torch.where(is_finite, values[-1], torch.nan), outputs


class Part(Block):
    """A module of a network: some of its layers, and the classifier above them, which learn at once with the others."""

    def forward(self, state: Any) -> tuple[Any, Tensor, Tensor | None]:
        """The state above, the outputs of the classifier, and what samples are compared by, from the state below."""
        state = self.through(state)
        compared = self.head.similar(self.seen(state)) if isinstance(self.head, PredictionSimilarity) else None
        return state, self.head(self.seen(state)), compared


class Group(nn.Module):
    """The modules of a process, in order."""

    pipeline: Pipeline | None = None
    """The pipeline by which the states above these modules go to the next rank, if there is one."""

    def __init__(self, parts: Sequence[Part], first: int, num_outputs: int) -> None:
        super().__init__()
        # By their numbers in the network, so that names say the same on every rank.
        self.parts = nn.ModuleDict({str(number): part for number, part in enumerate(parts, first)})
        self.first, self.num_outputs = first, num_outputs

    @property
    def each(self) -> list[Part]:
        """The modules of this process, in order."""
        return cast(list[Part], list(self.parts.values()))

    @cached_property
    def compiled(self) -> list[nn.Module]:
        """The modules of this process, each through torch.compile."""
        return [compiled(part) for part in self.each]

    def forward(self, x: Tensor | StateBatch) -> Tensor:
        """The outputs of the last classifier; zeros on a rank in whose place the next one gives them."""
        state: Any = x.state if isinstance(x, StateBatch) else x
        outputs = torch.zeros(len(x), self.num_outputs, device=x.device)
        for part in self.each:
            if self.training or part.is_last:
                state, outputs, _ = part(state)
            else:
                state = part.through(state)
        if self.pipeline is not None and not self.training:
            self.pipeline.send(state, self.pipeline.targets)
        return outputs


def balanced(costs: Sequence[float], count: int) -> list[range]:
    """A cut of neighbours into so many runs, of which the costliest costs as little as can be."""
    n, total = len(costs), [0.0]
    for cost in costs:
        total.append(total[-1] + cost)
    # best[i]: of the first i, the cost of the costliest run and where the runs end.
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, (0,)), *[(math.inf, ())] * n]
    for _ in range(count):
        best = [
            min(((max(best[j][0], total[i] - total[j]), (*best[j][1], i)) for j in range(i)), default=(math.inf, ()))
            for i in range(n + 1)
        ]
    return [range(a, b) for a, b in pairwise(best[n][1])]


def _costs(parts: Sequence[Part], x: Tensor) -> tuple[list[float], list[Any]]:
    """The operations of each part on a batch, and how the state below the part is made of tensors."""
    costs, specs, state = [], [], x
    with evaluation_mode(*parts), torch.no_grad():
        for part in parts:
            if not all(isinstance(leaf, Tensor) for leaf in tree_leaves(state)):
                raise MinimandError(
                    f"the state below layer {part.block.start} is not of tensors alone, so it cannot be sent; expected "
                    "one process."
                )
            specs.append(tree_flatten(state)[1])
            with FlopCounter() as counter:
                state, *_ = part(state)
            costs.append(float(counter.get_total_flops() or 1))
    return costs, specs


def _check_apart(groups: Sequence[Group]) -> None:
    owners: dict[int, int] = {}
    for rank, group in enumerate(groups):
        for name, parameter in group.named_parameters():
            if owners.setdefault(id(parameter), rank) != rank:
                raise MinimandError(
                    f"modules of rank {rank} and rank {owners[id(parameter)]} share {name}, as layers of a stage share "
                    "learnable coefficients; expected constants there, fewer ranks, or one process."
                )

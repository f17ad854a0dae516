"""All modules of a network at once, each by a loss of its own: decoupled greedy learning (Belilovsky et al. 2020)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...._support.checks import check_number
from ...._support.errors import MinimandError, unknown_name
from ...._support.seeds import seeded_apart
from ...._support.torch_internals import BatchNorm, tree_flatten, tree_leaves, tree_map, uncompiled
from ....layers.heads import AUXILIARIES, Auxiliary, PredictionSimilarity, auxiliary
from ....networks.as_network import Network, as_network
from ....networks.compiled import compiled
from ...distributed.pipeline import Pipeline, SentState
from ...distributed.processes import broadcast_object, world_size
from ...distributed.replay import Buffer
from ...loop.losses import Loss
from ...loop.problems import Plan, Problem
from ...loop.state_batch import StateBatch
from .._registry import METHODS
from ..method import Method
from .layerwise import coefficients
from .partition import divided


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
    auxiliary: Auxiliary = "mlp_sr"
    auxiliary_width: int | None = None
    """The channels, or units, of its hidden layers; by default those of what it looks at."""
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
        if self.auxiliary not in AUXILIARIES:
            raise unknown_name("auxiliary of Decoupled", str(self.auxiliary), AUXILIARIES)
        if self.auxiliary == "predsim":
            object.__setattr__(self, "references", (*self.references, *PredictionSimilarity.references))

    def check(self, world_size: int) -> None:
        if world_size > 1 or self.buffer is None:
            return
        raise MinimandError(
            f"Decoupled.buffer is {self.buffer}, but in one process modules take turns and none waits; expected None, "
            "or several processes: torchrun --nproc-per-node 2 -m -- minimand train ..."
        )

    def plan(self, model: nn.Module, example: Callable[[], Tensor], num_outputs: int, epochs: int) -> Plan:
        """The one problem of training all modules at once; under torchrun those of this rank.

        Raises:
            TypeError: the model is no network. ValueError: it has one module, or one whose state cannot be read; fewer
            than there are processes; two that share a parameter, on two of them.
        """
        x, ranks = example(), world_size()
        network = as_network(model, x)
        blocks, shapes = self._modules(model, network, x)
        if ranks > len(blocks):
            raise MinimandError(
                f"torchrun started {ranks} processes, but {type(model).__name__} has {len(blocks)} modules to spread "
                f"over them; expected --nproc-per-node {len(blocks)} or fewer."
            )
        norm = any(isinstance(module, BatchNorm) for module in model.modules())
        heads = nn.ModuleList()
        for shape in shapes:
            made = auxiliary(self.auxiliary, shape, num_outputs, self.hidden_layers - 1, self.auxiliary_width, norm)
            heads.append(made.to(x.device))
        parts = [Part(network, block, head) for block, head in zip(blocks, [*heads, None], strict=True)]
        saved = nn.ModuleDict({"model": model, "heads": heads})
        if ranks == 1:
            group = Group(parts, 0, num_outputs)
            return Plan([Problem(group, group, epochs)], saved)
        pipeline, group = self._placed(parts, x, ranks, num_outputs)
        saved.load_state_dict(broadcast_object(saved.state_dict()))
        return Plan([Problem(group, group, epochs)], saved, world=pipeline)

    def _modules(self, model: nn.Module, network: Network, x: Tensor) -> tuple[list[range], list[tuple[int, ...]]]:
        """The layers of each module, and the shape of a sample of what is read above each but the last."""
        blocks, shapes = divided(model, network, self.block_size, x)
        if len(blocks) < (self.modules or 2):
            raise MinimandError(
                f"{type(model).__name__} has {len(network.layers)} layers, of which {len(blocks)} modules of "
                f"{self.block_size} can be made; expected layers for {self.modules or '2 or more'} modules."
            )
        if self.modules is None:
            return blocks, shapes
        ends = [len(blocks) * i // self.modules for i in range(self.modules + 1)]
        joined = [range(blocks[a].start, blocks[b - 1].stop) for a, b in pairwise(ends)]
        return joined, [shapes[end - 1] for end in ends[1:-1]]

    def _placed(self, parts: Sequence["Part"], x: Tensor, ranks: int, num_outputs: int) -> tuple[Pipeline, "Group"]:
        costs, specs = _costs(parts, x)
        places = balanced(costs, ranks)[::-1]  # rank 0 has the last ones
        groups = [Group([parts[j] for j in place], place.start, num_outputs) for place in places]
        _check_apart(groups)
        device = next(parts[0].parameters()).device
        buffer = None if self.buffer is None else Buffer[Any](self.buffer, self.max_reuse)
        pipeline = Pipeline(groups, [specs[place.start] for place in places], device, buffer)
        groups[pipeline.rank].hand_on_by(pipeline)
        return pipeline, groups[pipeline.rank]

    def backward(self, model: nn.Module, x: Tensor | StateBatch, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Fill the gradients of every module by its own loss; the loss and outputs returned are the last module's."""
        group = cast(Group, uncompiled(model))
        forwards = group.each if group is model else group.compiled
        state: Any = x.state if isinstance(x, StateBatch) else x
        seed = x.seed if isinstance(x, SentState) else None
        if seed is None:
            seed = int(torch.randint(2**62, ()))
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
                if number + 1 == group.first + len(forwards):
                    group.send(state, y, seed)
                with torch.autocast(x.device.type, enabled=False):
                    value.backward()
            values.append(value.detach())
        is_finite = torch.stack([value.isfinite() for value in values]).all()
        return torch.where(is_finite, values[-1], torch.nan), outputs.detach()


class Part(nn.Module):
    """A module of a network: some of its layers, and the classifier above them."""

    def __init__(self, network: Network, block: range, head: nn.Module | None) -> None:
        super().__init__()
        # In a tuple, so that the whole network is no submodule.
        self._network = (network,)
        self.block, self._is_last = block, head is None
        self.stem = network.stem if block.start == 0 else None
        self.layers = nn.ModuleList(network.layers[j] for j in block)
        self.coefficients = nn.ModuleList(coefficients(self.layers))
        self.head = network.head if head is None else head

    def forward(self, state: Any) -> tuple[Any, Tensor, Tensor | None]:
        """From what it reads, a batch or a state, to the state above it, the outputs of its classifier, and what
        samples are compared by, if they are."""
        state = self.through(state)
        compared = self.head.similar(self._seen(state)) if isinstance(self.head, PredictionSimilarity) else None
        return state, self.judge(state), compared

    def through(self, state: Any) -> Any:
        """The state above this module, from the batch or the state below it."""
        if self.stem is not None:
            state = self.stem(state)
        for layer in self.layers:
            state = layer(state)
        return state

    def judge(self, state: Any) -> Tensor:
        """The outputs of this module's classifier, from the state above the module."""
        return self.head(self._seen(state))

    def _seen(self, state: Any) -> Any:
        (network,) = self._network
        return state if self._is_last else network.read(self.block.stop - 1, state)


class Group(nn.Module):
    """The modules of a process, in order."""

    def __init__(self, parts: Sequence[Part], first: int, num_outputs: int) -> None:
        super().__init__()
        # By their numbers in the network, so that names say the same on every rank.
        self.parts = nn.ModuleDict({str(number): part for number, part in enumerate(parts, first)})
        self.first, self.num_outputs = first, num_outputs
        self._pipeline: Pipeline | None = None

    @property
    def each(self) -> list[Part]:
        """The modules of this process, in order."""
        return cast(list[Part], list(self.parts.values()))

    def hand_on_by(self, pipeline: Pipeline) -> None:
        """Send the states above these modules to the next rank of a pipeline, if there is one."""
        self._pipeline = None if pipeline.is_last else pipeline

    def send(self, state: Any, y: Tensor, seed: int) -> None:
        """Send a state to the next rank of the pipeline, if there is one."""
        if self._pipeline is not None:
            self._pipeline.send(state, y, seed)

    @cached_property
    def compiled(self) -> list[nn.Module]:
        """The modules of this process, each through torch.compile."""
        return [compiled(part) for part in self.each]

    def forward(self, x: Tensor | StateBatch) -> Tensor:
        """The outputs of the last classifier; zeros on a rank in whose place the next one gives them."""
        state: Any = x.state if isinstance(x, StateBatch) else x
        if self.training:
            *_, outputs = self._all(state)
            return outputs
        for part in self.each:
            state = part.through(state)
        if self._pipeline is None:
            return self.each[-1].judge(state)
        self._pipeline.send(state, self._pipeline.targets)
        return torch.zeros(len(x), self.num_outputs, device=x.device)

    def _all(self, state: Any) -> Iterator[Tensor]:
        for part in self.each:
            state, outputs, _ = part(state)
            yield outputs


def balanced(costs: Sequence[float], count: int) -> list[range]:
    """So many runs of neighbours, of which the costliest costs as little as can be."""
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
    ends = best[n][1]
    return [range(a, b) for a, b in pairwise(ends)]


def _costs(parts: Sequence[Part], x: Tensor) -> tuple[list[float], list[Any]]:
    """Of each part its operations on a batch, and how the state below it is made of tensors."""
    costs, specs, state = [], [], x
    modes = [(module, module.training) for part in parts for module in part.modules()]
    try:
        for part in parts:
            part.eval()
            if not all(isinstance(leaf, Tensor) for leaf in tree_leaves(state)):
                raise MinimandError(
                    f"the state below layer {part.block.start} is not of tensors alone, so it cannot be sent; expected "
                    "one process."
                )
            specs.append(tree_flatten(state)[1])
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                state, *_ = part(state)
            costs.append(float(counter.get_total_flops() or 1))
    finally:
        for module, training in modes:
            module.training = training
    return costs, specs


def _check_apart(groups: Sequence[Group]) -> None:
    seen: dict[int, int] = {}
    for rank, group in enumerate(groups):
        for name, parameter in group.named_parameters():
            if seen.setdefault(id(parameter), rank) != rank:
                raise MinimandError(
                    f"modules of rank {rank} and rank {seen[id(parameter)]} share {name}, as layers of a stage share "
                    "learnable coefficients; expected constants there, fewer ranks, or one process."
                )

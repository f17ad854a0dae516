"""Layer by layer: a deep network by one shallow problem after another (Belilovsky et al. 2019)."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast, get_args

import torch
from torch import Tensor, nn

from ...._support.checks import check_number
from ...._support.errors import MinimandError, unknown_name
from ...._support.torch.internals import tree_map_only
from ...._support.torch.modes import evaluation_mode
from ....data import tensor_of
from ....layers import PredictionSimilarity
from ....networks import Network, as_network
from ....networks.compiled import unwrapped
from ...loop.losses import Loss
from ...loop.problems import Plan, Problem
from ...loop.state_batch import StateBatch
from .._registry import METHODS
from ..method import Method, chain_rule, descend
from .activations import DTYPES, Cache, StoredPrecision, free_memory
from .heads import Heads, LocalAuxiliary, auxiliary_sources
from .partition import Block, coefficients, divided, seen_by

Averaged = Literal["logits", "probabilities"]

# Bytes that training takes for a parameter: itself, its gradient and two moments.
_TRAINED = 16


@METHODS.register("layerwise")
@dataclass(frozen=True)
class Layerwise(Method):
    """Train the layers of a network one after another, each below an auxiliary classifier that is then dropped.

    Block j and its classifier see what the blocks before it give, which are frozen and in evaluation mode; the first
    block takes the stem along. The classifier of the last block is the network's own head, so that the trained model
    is the network itself. With `hidden_layers` = k a block is trained below k - 1 hidden layers (the paper's k). A
    learnable coefficient that only a later layer reads is not trained, and a weight that blocks share, as a tied head
    does, moves with the last of them. A layer without a derivative may stand anywhere: it begins the block after it,
    and no gradient has to cross it.
    """

    hidden_layers: int = 1
    auxiliary: LocalAuxiliary = "cnn"
    auxiliary_width: int | None = None
    """The channels, or units, of an auxiliary head's hidden layers; by default those of what the head looks at."""
    block_size: int = 1
    """The number of layers in a block."""
    start: int = 0
    """The first block that is trained, counted from the end if negative; those below it stay as they are. With -1 a
    trained network learns its last block anew below another head (the published shrinking of the last classifier)."""
    global_weight: float = 0.0
    """The share g of the network's own loss: a block learns by (1 - g) times the loss of its classifier and g times
    that of the head, through the layers between, which stay as they are: for networks that have learned before."""
    epochs_per_layer: int | None = None
    """The epochs of each block; by default those of the recipe."""
    cache: Literal["off", "memory", "disk"] = "off"
    """Where what the frozen blocks give is kept until the end, so that the cost of a block does not grow with its
    number; on disk in files that are mapped into memory."""
    views: int = 1
    """What is kept of each training sample: itself, or several augmented views, of which every epoch draws one."""
    cache_precision: StoredPrecision = "fp32"
    """The number format in which activations are stored."""
    ensemble: Averaged = "logits"
    """What `FitResult.ensemble` averages over the classifiers, which are kept for it."""
    memory: float | None = None
    """Gigabytes that the weights of a block's classifier may take in training, with gradients and moments; by default
    what is free. Checked before the start."""

    references: ClassVar[tuple[str, ...]] = ("belilovsky2019greedy",)

    def __post_init__(self) -> None:
        for name in ("hidden_layers", "block_size", "auxiliary_width", "epochs_per_layer", "views"):
            if getattr(self, name) is not None or name not in ("auxiliary_width", "epochs_per_layer"):
                check_number(f"Layerwise.{name}", getattr(self, name), 1, math.inf, whole=True)
        check_number("Layerwise.start", self.start, -math.inf, math.inf, whole=True)
        check_number("Layerwise.global_weight", self.global_weight, 0, 1)
        if self.memory is not None:
            check_number("Layerwise.memory", self.memory, 0, math.inf)
        choices = {
            "cache": ("off", "memory", "disk"),
            "cache_precision": get_args(StoredPrecision),
            "ensemble": get_args(Averaged),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown_name(f"{name} of Layerwise", str(getattr(self, name)), known)
        if self.views > 1 and self.cache == "off":
            raise MinimandError(f"Layerwise.views is {self.views}, but nothing is kept; expected a cache.")
        if sources := auxiliary_sources("Layerwise", self.auxiliary):
            object.__setattr__(self, "references", (*self.references, *sources))
        if self.auxiliary == "momentum":
            raise MinimandError(
                "Layerwise.auxiliary is 'momentum', which follows the next layer as it learns, and layer by layer that "
                "one rests; expected 'auglocal', which copies it, or mm.Decoupled."
            )

    @property
    def takes_penalties(self) -> bool:
        return self.auxiliary != "predsim" and not self.global_weight  # of either a share is taken of a loss

    def plan(self, model: nn.Module, example: Callable[[], Tensor], num_outputs: int, epochs: int) -> Plan:
        """The problems of training one block after another, each below its auxiliary classifier."""
        x = example()
        network = as_network(model, x)
        blocks, shapes = divided(model, network, self.block_size, x)
        count = len(blocks)
        if count < 2:
            raise MinimandError(
                f"{type(model).__name__} has {len(network.layers)} layers, which is {count} block of "
                f"{self.block_size}; expected two blocks or more to train one after another."
            )
        if not -count <= self.start < count:
            raise MinimandError(
                f"Layerwise.start is {self.start}, and there are {count} blocks; expected {-count} to {count - 1}."
            )
        start = self.start % count
        options = (_outputs(model, x, num_outputs), self.hidden_layers, self.auxiliary_width)
        maker = Heads(self.auxiliary, model, network, blocks, shapes, x, *options)
        heads = nn.ModuleList(self._head(maker, j) for j in range(start, count - 1))
        pairs = zip(blocks[start:], [*heads, None], strict=True)
        problems = [Shallow(model, network, block, head) for block, head in pairs]
        ends = [block.stop - 1 for block in blocks[start:-1]]
        return Plan(
            [Problem(problem, problem, self.epochs_per_layer or epochs) for problem in problems],
            nn.ModuleDict({"model": model, "heads": heads}),
            self._cache(model, network, problems, x),
            Ensemble(model, network, ends, heads, self.ensemble) if ends else None,
        )

    def _head(self, maker: Heads, number: int) -> nn.Module:
        count = maker.parameters(number)
        limit = math.inf if self.memory is None else 1e9 * self.memory
        allowed = min(limit, free_memory(next(maker.model.parameters()).device))
        if _TRAINED * count > allowed:
            larger = ", or more memory" if limit == allowed else ""
            raise MinimandError(
                f"Layerwise.auxiliary {self.auxiliary!r} of block {number}, on "
                f"{' x '.join(map(str, maker.shapes[number]))}, has {count:,} parameters, which take "
                f"{_TRAINED * count / 1e9:.3g} GB in training (weights, gradients and two moments); "
                f"{'asked for' if limit == allowed else 'free'} are {allowed / 1e9:.3g} GB. Expected "
                f"a smaller auxiliary_width, 'mlp_sr' or 'linear'{larger}."
            )
        return maker.make(number)

    def _cache(self, model: nn.Module, network: Network, problems: list["Shallow"], x: Tensor) -> Cache | None:
        if self.cache == "off":
            return None
        self._check_shared(model, problems)
        below = problems[:-1]
        if problems[0].block.start:
            below = [Shallow(model, network, range(problems[0].block.start), nn.Identity()), *below]
        steps = [problem.through for problem in below]
        return Cache(steps, x, self.cache, DTYPES[self.cache_precision], self.views, len(problems) - len(below))

    def _check_shared(self, model: nn.Module, problems: list["Shallow"]) -> None:
        """Raise MinimandError for a weight that is trained after states which it made were kept."""
        first, names = problems[0], {p: name for name, p in model.named_parameters()}
        below = nn.ModuleList([first.network.stem, *first.network.layers[: first.block.start]])
        weights_below = set(below.parameters()) if first.block.start else set()
        for problem in problems:
            held = [part for part in (problem.stem, problem.layers, problem.head) if part is not None]
            for parameter in nn.ModuleList(held).parameters():
                if parameter in weights_below and parameter.requires_grad:
                    raise MinimandError(
                        f"Layerwise.cache is {self.cache!r}, but the layers from {problem.block.start} on train "
                        f"{names[parameter]} too, of layers below, and states that those gave are kept; "
                        "expected cache='off', or a model without shared weights, as a language model of tied=False is."
                    )
            weights_below.update(p for part in held[: None if problem.is_last else -1] for p in part.parameters())

    def backward(self, model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        if not self.global_weight and self.auxiliary != "predsim":
            return chain_rule(model, x, y, loss)
        outputs, compared, ahead = model(x, bool(self.global_weight))
        value = loss(outputs, y)
        if compared is not None:
            value = cast(PredictionSimilarity, unwrapped(model).head).mixed(value, compared, y, outputs.shape[1])
        if ahead is not None:
            value = torch.lerp(value, loss(ahead, y), self.global_weight)
        return descend(value, outputs)


def _outputs(model: nn.Module, x: Tensor, of_data: int) -> int:
    """As many outputs of a classifier as the model has, with which it is averaged; data may lack the last classes."""
    with evaluation_mode(model), torch.no_grad():
        outputs = tensor_of(model(x))
    is_row = outputs.ndim == 2 or (outputs.ndim == 3 and outputs.shape[:2] == x.shape)  # of a sample, or a token
    return max(of_data, outputs.shape[-1]) if is_row else of_data


class Shallow(Block):
    """A block and the classifier above it, on what the frozen blocks before give: (N, ...) to (N, outputs)."""

    def __init__(self, model: nn.Module, network: Network, block: range, head: nn.Module | None) -> None:
        super().__init__(network, block, head)
        self._frozen = (model,)  # no submodule, as the network is none

    def forward(self, x: Tensor | StateBatch, ahead: bool | None = None) -> Any:
        """Outputs of a batch, or of what the blocks before gave for it.

        With `ahead` also, or None, what samples are compared by and, if it is true, the outputs of the network's head.
        """
        state = self.state(x)
        readout = self.seen(state)
        outputs = self.head(readout)
        if ahead is None:
            return outputs
        compared = self.head.similar(readout) if isinstance(self.head, PredictionSimilarity) else None
        return outputs, compared, self.through_the_rest(state) if ahead and not self.is_last else None

    def state(self, x: Tensor | StateBatch) -> Any:
        """The state above the block that is trained, from a batch or from the states below the block."""
        network = self.network
        if isinstance(x, StateBatch):
            return super().through(x.state)
        state: Any = x
        if self.block.start:
            with torch.no_grad():
                state = network.stem(x)
                for j in range(self.block.start):
                    state = network.layers[j](state)
        return super().through(state)

    def through_the_rest(self, state: Any) -> Tensor:
        """Outputs of the network's own head, through later layers that learn nothing by it."""
        network = self.network
        layers = [network.layers[j] for j in range(self.block.stop, len(network.layers))]
        # Layers may work in place, and the classifier's graph keeps the state.
        state = tree_map_only(Tensor, torch.clone, state)
        with _fixed([*layers, network.head, *coefficients(layers)]):
            for layer in layers:
                state = layer(state)
            return network.head(state)

    def through(self, state: Any) -> Any:
        """The state above the block, from the batch or the state below it, everything frozen."""
        self._frozen[0].eval()
        with torch.no_grad():
            return super().through(state)

    def train(self, mode: bool = True) -> Self:
        """Everything before the block stays in evaluation mode."""
        self._frozen[0].eval()
        return super().train(mode)


class Ensemble(nn.Module):
    """The outputs of classifiers j = 0, 1, ... of a network, the head last, averaged with weights 2^j / sum 2^i.

    Classifiers `heads` look after the layers `ends`. What is `averaged` are outputs themselves, as published for
    CIFAR-10, or probabilities of classes, as for ImageNet; the output is then their logarithm.
    """

    def __init__(
        self, model: nn.Module, network: Network, ends: Sequence[int], heads: nn.ModuleList, averaged: Averaged
    ) -> None:
        super().__init__()
        self.model, self.heads, self.averaged = model, heads, averaged
        self._network = (network,)  # so that nothing has two names
        self._ends = tuple(ends)

    def forward(self, x: Tensor) -> Tensor:
        """The average of all classifiers' outputs (N, ..., outputs), or of their probabilities, for inputs (N, ...)."""
        outputs = torch.stack(self.outputs(x)).float()
        if self.averaged == "probabilities":
            outputs = outputs.softmax(-1)
        weights = 2.0 ** torch.arange(len(outputs), device=x.device)
        mean = torch.tensordot(weights / weights.sum(), outputs, 1)
        return mean if self.averaged == "logits" else mean.clamp_min(torch.finfo(mean.dtype).tiny).log()

    def outputs(self, x: Tensor) -> list[Tensor]:
        """The outputs of each classifier, the network's own head last."""
        (network,) = self._network
        state: Any = network.stem(x)
        outputs: list[Tensor] = []
        for j, layer in enumerate(network.layers):
            state = layer(state)
            if j in self._ends:
                head = self.heads[len(outputs)]
                outputs.append(head(seen_by(head, network, j, state)))
        own = tensor_of(network.head(state))
        return [*(output.reshape(own.shape) for output in outputs), own]  # one output each may be (N, 1) or (N,)


@contextmanager
def _fixed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """A context in which what is computed has no gradient by the parameters of some modules."""
    parameters = {p for module in modules for p in module.parameters() if p.requires_grad}
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)

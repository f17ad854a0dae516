"""Layer by layer: a deep network by one shallow problem after another (Belilovsky et al. 2019)."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from ..blocks.auxiliary import AUXILIARIES, Auxiliary, auxiliary
from ..checks import check_number
from ..names import unknown_name
from ..networks import Layer, Network, as_network
from .activations import Cache, Precision, State
from .losses import Loss
from .method import Plan, Problem, chain_rule


@dataclass(frozen=True)
class Layerwise:
    """Train the layers of a network one after another, each below an auxiliary classifier that is then dropped.

    Block j and its classifier see what the blocks before it give, which are frozen and in evaluation mode; the first
    block takes the stem along. The classifier of the last block is the network's own head, so that the trained model
    is the network itself. With `hidden_layers` = k a block is trained below k - 1 hidden layers (the paper's k). A
    learnable coefficient that only a later layer reads is not trained.
    """

    hidden_layers: int = 1
    auxiliary: Auxiliary = "cnn"
    auxiliary_width: int | None = None
    """The channels, or units, of its hidden layers; by default those of what it looks at."""
    block_size: int = 1
    """Layers in a block."""
    epochs_per_layer: int | None = None
    """Of each block; by default those of the recipe."""
    cache: Literal["off", "memory", "disk"] = "off"
    """Where what the frozen blocks give is kept, so that the cost of a block does not grow with its number. On disk, in
    files that are mapped into memory, and deleted at the end."""
    views: int = 1
    """What is kept of each training sample: one view is the sample itself, several are augmented ones, of which every
    epoch draws one."""
    precision: Precision = "float32"
    """Of what is kept."""

    references: ClassVar = ("belilovsky2019greedy",)

    def __post_init__(self) -> None:
        check_number("Layerwise.hidden_layers", self.hidden_layers, 1, math.inf, whole=True)
        check_number("Layerwise.block_size", self.block_size, 1, math.inf, whole=True)
        for name in ("auxiliary_width", "epochs_per_layer"):
            if getattr(self, name) is not None:
                check_number(f"Layerwise.{name}", getattr(self, name), 1, math.inf, whole=True)
        check_number("Layerwise.views", self.views, 1, math.inf, whole=True)
        for name, known in (("cache", ("off", "memory", "disk")), ("precision", get_args(Precision))):
            if getattr(self, name) not in known:
                raise unknown_name(f"{name} of Layerwise", str(getattr(self, name)), known)
        if self.views > 1 and self.cache == "off":
            raise ValueError(f"Layerwise.views is {self.views}, but nothing is kept; expected a cache.")
        if self.auxiliary not in AUXILIARIES:
            raise unknown_name("auxiliary of Layerwise", str(self.auxiliary), AUXILIARIES)

    def plan(self, model: nn.Module, example: Callable[[], Tensor], num_outputs: int, epochs: int) -> Plan:
        """See `Method`.

        Raises:
            TypeError: the model is no network. ValueError: it has one layer, or one whose state cannot be read.
        """
        network = as_network(model)
        blocks = _blocks(len(network.layers), self.block_size)
        if len(blocks) < 2:
            raise ValueError(
                f"{type(model).__name__} has {len(network.layers)} layers, which is {len(blocks)} block of "
                f"{self.block_size}; expected two blocks or more to train one after another."
            )
        shapes = _shapes(model, network, example())
        norm = any(isinstance(module, _BatchNorm) for module in model.modules())
        heads = nn.ModuleList()
        for block in blocks[:-1]:
            shape = shapes[block.stop - 1]
            made = auxiliary(self.auxiliary, shape, num_outputs, self.hidden_layers - 1, self.auxiliary_width, norm)
            heads.append(made.to(next(model.parameters()).device))
        problems = [Shallow(model, network, block, head) for block, head in zip(blocks[:-1], heads, strict=True)]
        problems.append(Shallow(model, network, blocks[-1], None))
        return Plan(
            [Problem(problem, problem, self.epochs_per_layer or epochs) for problem in problems],
            nn.ModuleDict({"model": model, "heads": heads}),
            None if self.cache == "off" else self._cache(network, problems, example()),
        )

    def _cache(self, network: Network, problems: Sequence["Shallow"], x: Tensor) -> Cache:
        assert self.cache != "off"
        sizes = []
        with torch.no_grad():
            for problem in problems[:-1]:
                x = problem.through(x)
                sizes.append(sum(leaf[:1].numel() for leaf in tree_leaves(x)))
        return Cache([problem.through for problem in problems[:-1]], sizes, self.cache, self.precision, self.views)

    def backward(self, model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """See `Method`."""
        return chain_rule(model, x, y, loss)


class Shallow(nn.Module):
    """A block and the classifier above it, on what the frozen blocks before give: (N, ...) to (N, outputs)."""

    def __init__(self, model: nn.Module, network: Network, block: range, head: nn.Module | None) -> None:
        super().__init__()
        # In a tuple, so that what is frozen is no submodule: neither trained, nor put into training mode.
        self._frozen = (model, network)
        self.block = block
        self.stem = network.stem if block.start == 0 else None
        self.layers = nn.ModuleList(network.layers[j] for j in block)
        self.coefficients = nn.ModuleList(_coefficients(self.layers))
        self.head = network.head if head is None else head
        self._last = head is None

    def forward(self, x: Tensor | State) -> Tensor:
        """Outputs of a batch, or of what the blocks before gave for it."""
        _, network = self._frozen
        if isinstance(x, State):
            state = x.value
        elif self.stem is not None:
            state = self.stem(x)
        else:
            with torch.no_grad():
                state = network.stem(x)
                for j in range(self.block.start):
                    state = network.layers[j](state)
        for layer in self.layers:
            state = layer(state)
        return self.head(state if self._last else network.read(self.block.stop - 1, state))

    def through(self, state: Any) -> Any:
        """From what the block reads, a batch for the first one, to the state above it, everything frozen."""
        self._frozen[0].eval()
        with torch.no_grad():
            state = state if self.stem is None else self.stem(state)
            for layer in self.layers:
                state = layer(state)
        return state

    def train(self, mode: bool = True) -> Self:
        """Everything before the block stays in evaluation mode."""
        self._frozen[0].eval()
        return super().train(mode)


def _blocks(layers: int, size: int) -> list[range]:
    return [range(j, min(j + size, layers)) for j in range(0, layers, size)]


def _coefficients(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """What stages hold for their layers; a layer learns its own entries only, as the others get no gradient."""
    stages = {id(stage): stage for layer in layers if isinstance(layer, Layer) for stage in layer._stage}
    return [stage.coefficients for stage in stages.values()]


def _shapes(model: nn.Module, network: Network, x: Tensor) -> list[tuple[int, ...]]:
    """Of one sample of what is read after each layer."""
    training, shapes = model.training, []
    model.eval()
    try:
        with torch.no_grad():
            state: Any = network.stem(x)
            for j, layer in enumerate(network.layers):
                state = layer(state)
                read = cast(Any, network.read(j, state))
                if not isinstance(read, Tensor):
                    raise ValueError(
                        f"read({j}, state) of {type(model).__name__} gives {type(read).__name__}; expected a tensor "
                        "that an auxiliary classifier can look at."
                    )
                shapes.append(tuple(read.shape[1:]))
    finally:
        model.train(training)
    return shapes

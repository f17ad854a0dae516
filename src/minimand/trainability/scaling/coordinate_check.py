"""The coordinate check: whether a few steps change features alike in networks of every depth and width."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._support.checks import check_number
from ..._support.errors import MinimandError, WrongTypeError
from ..._support.style import COLORS, INK, Figure, draw_mean_and_range, new_figure, plain
from ..._support.tables import table_text
from ...data import tensor_of
from ...networks.kinds import check_model, layers
from ...networks.skeletons import skeletons
from ...recipes.optimizers import AdamW, Optimizer, make_optimizer
from ..measure.tracing import arguments

FLAT = 0.1
"""The largest slope, in size and either way, that counts as flat."""
# The share of the features' change that hidden layers make by themselves, under which they count as frozen.
_MOVING = 0.1
# The change of features, in shares of their own size, beyond which a step is no small one.
_LARGE = 1.0
_DEPTHS, _DEPTH, _WIDTH = (4, 8, 16, 32, 64), 8, 64
_SAMPLES = {True: 16, False: 128}  # of images, and of vectors

Axis = Literal["depth", "width"]


@dataclass(frozen=True)
class Sweep:
    """The change of features over depths, or over widths."""

    axis: Axis
    sizes: tuple[int, ...]
    changes: tuple[tuple[float, ...], ...]
    """For each size the root mean square change of the features, one for each seed; infinite where training broke."""
    features: float
    """The root mean square of the largest network's features at the start."""
    hidden_share: float
    """How far the largest network's features move when hidden layers alone do, in shares of the whole change."""

    @property
    def means(self) -> list[float]:
        """The geometric mean over seeds of the change, for each size."""
        return [math.exp(statistics.mean(map(math.log, values))) for values in self.changes]

    @property
    def slope(self) -> float:
        """The exponent of the size with which the change grows: 0 where settings carry over."""
        if math.inf in self.means:
            return math.inf
        return statistics.linear_regression(list(map(math.log, self.sizes)), list(map(math.log, self.means))).slope

    @property
    def verdict(self) -> str:
        """A clause on what the sweep shows: "flat", or what is wrong."""
        if math.inf in self.means:
            return f"training breaks at {self.axis} {self.sizes[self.means.index(math.inf)]}"
        if self.slope > FLAT:
            return f"the change of features grows like {self.axis}^{self.slope:.2f}"
        if self.slope < -FLAT:
            return f"the change of features vanishes like {self.axis}^{self.slope:.2f}"
        if self.hidden_share < _MOVING:
            return f"flat, but the hidden layers hardly move: they make {self.hidden_share:.0%} of the change"
        if max(self.means) > _LARGE * self.features:
            change = max(self.means) / self.features
            return f"flat, but features change by {change:.2g} times their size: take a smaller rate"
        return "flat"


@dataclass(frozen=True)
class CoordinateCheck:
    """What a few steps of training did to the features of networks of several depths and widths."""

    sweeps: tuple[Sweep, ...]
    optimizer: Optimizer
    steps: int

    @property
    def slope(self) -> float:
        """The largest exponent, in size, over depths and widths."""
        return max((sweep.slope for sweep in self.sweeps), key=abs)

    @property
    def ok(self) -> bool:
        """Whether one rate suits all sizes: the change is flat, not frozen, and small."""
        return all(sweep.verdict == "flat" for sweep in self.sweeps)

    def figure(self) -> Figure:
        """The change of features against depth, or width, on logarithmic axes, a panel for each (extra `plots`)."""
        figure = new_figure(4.2 * len(self.sweeps), 3.2)
        for i, sweep in enumerate(self.sweeps):
            axes = plain(figure.add_subplot(1, len(self.sweeps), i + 1))
            draw_mean_and_range(axes, sweep.sizes, sweep.changes, COLORS[i])
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xlabel(sweep.axis, color=INK)
            axes.set_ylabel(f"change of features after {self.steps} steps", color=INK, fontsize=8)
            axes.set_title(f"{sweep.verdict} (slope {sweep.slope:+.2f})", fontsize=9, color=INK, wrap=True)
        return figure

    def __str__(self) -> str:
        rows = [
            [f"{sweep.axis} {size}", f"{mean:.3g}", f"{min(values):.3g} to {max(values):.3g}"]
            for sweep in self.sweeps
            for size, mean, values in zip(sweep.sizes, sweep.means, sweep.changes, strict=True)
        ]
        lines = [f"over {s.axis}: slope {s.slope:+.2f}, {s.verdict}" for s in self.sweeps]
        title = f"change of features after {self.steps} steps of {self.optimizer}"
        return table_text(["network", "change", "over seeds"], rows, title, "\n".join(lines), labels=1)


def coordinate_check(
    make: Callable[..., nn.Module],
    *,
    depths: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    optimizer: Optimizer | str | None = None,
    batch: Any = None,
    steps: int = 3,
    seeds: int = 2,
) -> CoordinateCheck:
    """Train networks of several depths and widths for a few steps, and compare how far their features move.

    Where the change is the same at every size, a learning rate carries over; a flat line is needed for that, and not
    enough. Features are what the last stage of an `mm.unroll` gives, or what the last layer reads. The loss is the
    cross-entropy of random classes. torch's random state stays as it was.

    Args:
        make: a function of `depth` and `width` that gives a model, whose scaling rule is set: by
            `mm.create_model(..., parametrization="complete_p")`, or by `mm.prepare`.
        depths: depths to compare, at the first width; by default 4 to 64, or 8 where widths are given.
        widths: widths to compare, at the first depth; by default 64.
        optimizer: an object or a name; by default `mm.AdamW(lr=5e-4, betas=(0.9, 0.95), weight_decay=0)`.
        batch: what the models are called with; by default noise of the shape that a named model takes.
        steps: the number of steps after which features are compared; 2 at least see behind a layer that starts at 0.
        seeds: how often each network is drawn and trained.

    Raises:
        MinimandError: fewer than two sizes to compare, no step or no seed, or a batch that is needed; a `make` that
            gives the same network twice, or one that does not train or does not tell two classes apart.
    """
    for name, value in {"steps": steps, "seeds": seeds}.items():
        check_number(name, value, 1, math.inf, whole=True)
    make = _checked(make)
    optimizer = optimizer or AdamW(lr=5e-4, betas=(0.9, 0.95), weight_decay=0.0)
    optimizer = make_optimizer(optimizer) if isinstance(optimizer, str) else optimizer
    if not isinstance(optimizer, Optimizer):
        raise WrongTypeError(f"optimizer is {optimizer!r}; expected one such as mm.AdamW(), or its name.")
    depths = _sizes("depths", depths) or (_DEPTHS if widths is None else (_DEPTH,))
    widths = _sizes("widths", widths) or (_WIDTH,)
    by_axis: dict[Axis, list[tuple[int, dict[str, int]]]] = {
        "depth": [(depth, {"depth": depth, "width": widths[0]}) for depth in depths],
        "width": [(width, {"depth": depths[0], "width": width}) for width in widths],
    }
    if len(depths) < 2 and len(widths) < 2:
        raise MinimandError(f"depths is {depths} and widths {widths}; expected two depths or two widths at least.")
    sweeps = []
    with torch.random.fork_rng(), torch.enable_grad():
        for axis, networks in by_axis.items():
            if len(networks) < 2:
                continue
            changes = [
                tuple(_change(*_features(make, size, optimizer, batch, steps, seed)) for seed in range(seeds))
                for _, size in networks
            ]
            _check_that_sizes_differ(axis, networks, changes)
            largest = networks[-1][1]
            start, end = _features(make, largest, optimizer, batch, steps, 0, but_first=True)
            share = _size(end - start) / changes[-1][0]
            sweeps.append(Sweep(axis, tuple(size for size, _ in networks), tuple(changes), _size(start), share))
    return CoordinateCheck(tuple(sweeps), optimizer, steps)


def _checked(make: Any) -> Callable[..., nn.Module]:
    """A function that gives models, which raises MinimandError for what gives none that is new and trains."""
    if not callable(make):
        raise WrongTypeError(f"make is {make!r}; expected a function of depth and width that gives a model.")
    models: WeakSet[nn.Module] = WeakSet()

    def checked(**size: int) -> nn.Module:
        model: Any = make(**size)
        check_model(model)
        if model in models:
            raise MinimandError("make gives a model that it gave before, which has been trained; expected a new one.")
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise MinimandError(f"make gives a {type(model).__name__} that is frozen; expected one that trains.")
        models.add(model)
        return model

    return checked


def _sizes(name: str, sizes: Any) -> tuple[int, ...]:
    """Depths or widths in their order, each once; none for None."""
    if sizes is not None and not isinstance(sizes, Iterable):
        raise WrongTypeError(f"{name} is {sizes!r}; expected a list of integers, such as (4, 16, 64).")
    listed = tuple(sizes or ())
    for i, size in enumerate(listed):
        check_number(f"{name}[{i}]", size, 1, math.inf, whole=True)
    return tuple(sorted(set(listed)))


def _check_that_sizes_differ(
    axis: Axis, networks: Sequence[tuple[int, Any]], changes: Sequence[tuple[float, ...]]
) -> None:
    """Raise MinimandError where networks of two sizes did the same to the bit: a sweep of one network is flat."""
    sizes: dict[tuple[float, ...], int] = {}
    for (size, _), by_seed in zip(networks, changes, strict=True):
        if sizes.setdefault(by_seed, size) != size and math.inf not in by_seed:
            raise MinimandError(
                f"make gives the same network at {axis} {sizes[by_seed]} and {size}: its features move by "
                f"{by_seed[0]:.6g} in both; expected a function that uses its {axis}."
            )


def _features(
    make: Callable[..., nn.Module],
    size: dict[str, int],
    optimizer: Optimizer,
    batch: Any,
    steps: int,
    seed: int,
    but_first: bool = False,
) -> tuple[Tensor, Tensor]:
    """A new network's features at the start, and after some steps in which all layers learn, or all but the first."""
    torch.manual_seed(seed)
    model = make(**size)
    args, kwargs = arguments(_noise(model) if batch is None else batch)
    if but_first:
        # The last layer learns too, as it may start at 0; what reads an embedding is no first layer.
        embeds = any(isinstance(module, nn.Embedding) for module in model.modules())
        names = list(layers(model))[0 if embeds else 1 :]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name.startswith(tuple(f"{layer}." for layer in names)))
    built = optimizer.build(model)
    for group in built.param_groups:
        group["lr"] = optimizer.lr * group["share"]
    features: list[Tensor] = []
    classes: Tensor | None = None
    hook = _watch(model, features)
    try:
        for _ in range(steps + 1):
            outputs = tensor_of(model(*args, **kwargs))
            if outputs.ndim < 2 or outputs.shape[-1] < 2:
                raise MinimandError(
                    f"the model's outputs have the shape {tuple(outputs.shape)}; expected (N, ..., classes), two at "
                    "least: the loss is that of random classes."
                )
            logits = outputs.flatten(0, -2)
            if classes is None:
                classes = torch.randint(logits.shape[-1], (len(logits),), device=logits.device)
            if len(features) <= steps:
                built.zero_grad()
                F.cross_entropy(logits, classes).backward()
                built.step()
    finally:
        hook.remove()
    return features[0].double(), features[-1].double()


def _size(features: Tensor) -> float:
    return float(features.square().mean().sqrt())


def _change(start: Tensor, end: Tensor) -> float:
    """The root mean square change of features; infinite where they are not finite. Raises where nothing moved."""
    change = _size(end - start)
    if change == 0:
        raise MinimandError("the features did not move; expected a model whose layers before the last one train.")
    return change if math.isfinite(change) else math.inf


def _watch(model: nn.Module, features: list[Tensor]) -> Any:
    """Append the features of each forward pass of a model to a list; returns the hook's handle."""
    stages = skeletons(model)
    stage = stages[-1].source if stages else None
    if isinstance(stage, nn.Module):
        return stage.register_forward_hook(lambda _, inputs, output: features.append(output.detach().clone()))
    last = list(layers(model).values())[-1]
    return last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].detach().clone()))


def _noise(model: nn.Module) -> Tensor:
    """Noise of the shape that a named model takes."""
    noise, shape = getattr(model, "noise", None), getattr(model, "input_shape", None)
    if noise is None or shape is None:
        raise MinimandError(f"batch is None, and {type(model).__name__} is no named model; expected a batch of inputs.")
    return noise(_SAMPLES[len(shape) == 3])

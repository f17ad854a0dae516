"""Separability: what a classifier can tell from each layer of a trained network (Belilovsky et al. 2019, 4.2)."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from .._support.checks import check_number
from .._support.errors import MinimandError, unknown_name
from .._support.style import BLUE, GRID, INK, RED, new_figure
from .._support.tables import table_text
from .._support.torch.environment import as_device
from .._support.torch.seeds import random_state, restore_random_state
from ..data import Data, as_data
from ..data.data import as_prepared
from ..data.samples import Batch, Loader, Samples
from ..layers.heads import auxiliary
from ..networks import Network, as_network
from ..networks.kinds import check_model
from ..networks.undisturbed import undisturbed
from ..recipes.recipe import Recipe
from ..training.fit import check_seed, fit
from ..training.loop.evaluate import evaluate
from ..training.loop.events import Callback
from ..training.loop.state_batch import StateBatch
from ..training.methods.local.activations import Cache, Place, Source
from ..training.methods.local.partition import as_read

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ProbeKind = Literal["linear", "cnn"]
"""A kind of probe: one-vs-rest logistic regression on the 2 x 2 average, or a convolutional classifier."""

_BATCH = 256
_ITERATIONS = 1000
# Of a text, the positions of each part that a linear probe reads: one regression for each token takes a while.
_POSITIONS = 20_000


@dataclass(frozen=True)
class LayerSeparability:
    """How well a probe tells classes apart by the features of a layer, counted from 1, of that shape; from 0 to 1."""

    layer: int
    shape: tuple[int, ...]
    train_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class SeparabilityByLayer:
    """How well probes tell the classes apart at each layer of a network: the result of `mm.probe`."""

    model: str
    data: str
    kind: ProbeKind
    hidden_layers: int
    layers: tuple[LayerSeparability, ...]
    unconverged: tuple[int, ...] = ()
    """Layers whose logistic regression stopped before its end."""

    references: ClassVar = ("belilovsky2019greedy",)

    @property
    def probe(self) -> str:
        """The probes that were fitted, in words."""
        if self.kind == "linear":
            return "linear probes"
        return f"probes of {self.hidden_layers} hidden layer{'s' if self.hidden_layers > 1 else ''}"

    def to_dict(self) -> dict[str, Any]:
        """The separability as a dictionary of numbers, strings and lists, which JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        rows = []
        for x in self.layers:
            accuracies = (f"{100 * accuracy:.2f}" for accuracy in (x.train_accuracy, x.test_accuracy))
            rows.append([str(x.layer), " x ".join(map(str, x.shape)), *accuracies])
        unconverged = ", ".join(map(str, self.unconverged))
        note = f"Logistic regression did not converge at layer {unconverged}." if unconverged else ""
        columns = ["layer", "shape", "train accuracy %", "test accuracy %"]
        return f"{self.model} on {self.data}, {self.probe}\n{table_text(columns, rows, note=note, labels=2)}"

    def plot(self) -> "Figure":
        """The accuracy over the layers as a figure, on training samples dashed (extra `plots`)."""
        figure = new_figure(5, 3.2)
        axes = figure.subplots()
        numbers = [x.layer for x in self.layers]
        axes.plot(numbers, [100 * x.train_accuracy for x in self.layers], ".--", color=RED, label="train")
        axes.plot(numbers, [100 * x.test_accuracy for x in self.layers], "o-", color=BLUE, markersize=4, label="test")
        axes.set_title(f"{self.model} on {self.data}, {self.probe}", fontsize=9, color=INK)
        axes.set(xlabel="layer", ylabel="accuracy in %")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GRID, linewidth=0.6)
        axes.locator_params("x", integer=True)
        axes.legend(frameon=False, fontsize=8)
        return figure


def probe(
    model: nn.Module,
    data: Any,
    kind: ProbeKind = "linear",
    hidden_layers: int = 1,
    width: int | None = None,
    recipe: Recipe | None = None,
    cache: Place = "memory",
    seed: int = 0,
    device: str | torch.device | None = None,
    callbacks: Iterable[Callback] = (),
) -> SeparabilityByLayer:
    """Measure how well the classes can be told apart from what each layer of a trained network gives.

    The network runs in evaluation mode, and only to make features; all of its state and the random state stay.

    Args:
        model: as for `mm.as_network`; layer j is looked at by `read(j, state)`.
        data: as for `mm.fit`, of classes; probes are fitted to its training samples, which are not augmented.
        kind: `linear`, scikit-learn's logistic regression, one class against the rest, on the standardized 2 x 2
            average of a map (on the mean of tokens, on vectors as they are; of a text on each position, to tell the
            token that follows), or `cnn`, 3 x 3 convolutions with batch
            normalization, the average and a linear map (on tokens and vectors hidden layers).
        hidden_layers: the number of hidden layers of a `cnn` probe.
        width: the channels, or units, of the hidden layers; by default those of the features.
        recipe: the recipe of a `cnn` probe; by default one that suits the features.
        cache: where the features of a layer and the next are kept for `cnn` probes.
        seed: the seed of the weights of `cnn` probes and of the order of samples.
        device: as for `mm.fit`, of each `cnn` probe.
        callbacks: as for `mm.fit`, of each `cnn` probe.

    Raises MinimandError for a regression, a layer whose state cannot be read, or no room for the features.
    """
    for what, name, known in (("kind of probe", kind, get_args(ProbeKind)), ("cache of probe", cache, get_args(Place))):
        if name not in known:
            raise unknown_name(what, str(name), known)
    check_number("hidden_layers", hidden_layers, 1, math.inf, whole=True)
    if width is not None:
        check_number("width", width, 1, math.inf, whole=True)
    check_seed(seed)
    check_model(model)
    data = as_data(data)
    _check_data(data, kind)
    if device is not None:
        model.to(as_device(device))
    where = next((p.device for p in model.parameters()), torch.device("cpu"))
    before = random_state(where)
    try:
        network = _network(model, data, where)
        name = f"{type(model).__name__} of {len(network.layers)} layers"
        with undisturbed(model):
            model.eval()
            shapes = _shapes(network, data, where)
            if kind == "linear":
                return SeparabilityByLayer(name, _label(data), kind, 0, *_linear(network, data, shapes, where))
            probes = _ConvolutionalProbes(network, data, where, hidden_layers, width, recipe, seed, tuple(callbacks))
            return SeparabilityByLayer(name, data.name, kind, hidden_layers, tuple(probes.fitted(shapes, cache)))
    finally:
        restore_random_state(where, *before)


def _network(model: nn.Module, data: Data, device: torch.device) -> Network:
    """The network that a model is, cut by a few samples of the data."""
    x = data.example(device)
    try:
        return as_network(model, x)
    except (RuntimeError, IndexError) as error:
        raise _misfit(model, data, x, error) from error


@torch.no_grad()
def _shapes(network: Network, data: Data, device: torch.device) -> list[tuple[int, ...]]:
    """The shapes of one sample of the features of each layer."""
    x = data.example(device, 2)
    try:
        return [tuple(features.shape[1:]) for features in _features(network, x)]
    except (RuntimeError, IndexError) as error:
        raise _misfit(network, data, x, error) from error


def _misfit(model: Any, data: Data, x: Tensor, error: Exception) -> MinimandError:
    return MinimandError(
        f"{type(model).__name__} fails on samples of {data.name}, which have the shape {tuple(x.shape[1:])}: "
        f"{str(error).splitlines()[0]}"
    )


def _features(network: Network, x: Tensor) -> Iterator[Tensor]:
    """The features of each layer: what is read of the state above it."""
    state: Any = network.stem(x)
    for j, layer in enumerate(network.layers):
        state = layer(state)
        yield as_read(network, j, state)


def _linear(
    network: Network, data: Data, shapes: Sequence[tuple[int, ...]], device: torch.device
) -> tuple[tuple[LayerSeparability, ...], tuple[int, ...]]:
    """Logistic regression at each layer, and the layers where it did not converge."""
    (train, y), (test, y_test) = (_averages(network, data, s, shapes, device) for s in (data.train, data.test))
    if len(np.unique(y)) < 2:
        raise MinimandError(f"the training samples of {data.name} are of one class; expected two or more.")
    layers: list[LayerSeparability] = []
    unconverged: list[int] = []
    for j, (shape, x, x_test) in enumerate(zip(shapes, train, test, strict=True), 1):
        if not np.isfinite(x).all():
            raise MinimandError(f"layer {j} gives values that are NaN or infinite; expected a network that trained.")
        regression, converged = _regression(x, y)
        if not converged:
            unconverged.append(j)
        train_accuracy, test_accuracy = float(regression.score(x, y)), float(regression.score(x_test, y_test))
        layers.append(LayerSeparability(j, shape, train_accuracy, test_accuracy))
    return tuple(layers), tuple(unconverged)


def _averages(
    network: Network, data: Data, samples: Samples, shapes: Sequence[tuple[int, ...]], device: torch.device
) -> tuple[list[np.ndarray], np.ndarray]:
    """The averages (samples, features) of the features of each layer, by one pass over the samples; and the classes."""
    averages = [_average(data, shape) for shape in shapes]
    parts: list[list[Tensor]] = [[] for _ in shapes]
    targets: list[Tensor] = []
    with torch.no_grad():
        for x, y in as_prepared(data, samples, device).batches(_BATCH):
            targets.append(y.flatten().cpu())
            for part, average, features in zip(parts, averages, _features(network, x), strict=True):
                part.append(average(features).float().cpu())
            if data.is_text and sum(map(len, targets)) >= _POSITIONS:
                break
    return [torch.cat(part).numpy() for part in parts], torch.cat(targets).numpy()


def _check_data(data: Data, kind: ProbeKind) -> None:
    if data.task != "classification":
        raise MinimandError(f"{data.name} is a regression; probes tell classes apart, and expect data of classes.")
    if data.is_text and kind != "linear":
        raise MinimandError(
            f"kind is {kind!r}, and {data.name} is a text; expected 'linear', which tells the next token."
        )


def _label(data: Data) -> str:
    """The name of the data; of a text with how much of each part is read."""
    return data.name if not data.is_text else f"{data.name} (next token, the first {_POSITIONS:,} of each part)"


def _positions(features: Tensor) -> Tensor:
    """Features of each position (N T, D), from those of windows (N, T, D)."""
    return features.flatten(0, 1)


def _average(data: Data, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """What a linear probe reads of features (N, ...): an average for each sample, or in a text every position."""
    if data.is_text:
        return _positions
    return cast(nn.Sequential, auxiliary("linear", shape, data.num_outputs, norm=False))[:-1]


def _regression(x: np.ndarray, y: np.ndarray) -> tuple[Any, bool]:
    """One-vs-rest logistic regression on standardized features, and whether it converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(max_iter=_ITERATIONS)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        probe.fit(x, y)
    return probe, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


@dataclass(frozen=True)
class _ConvolutionalProbes:
    """Convolutional probes, each trained on features that are made once."""

    network: Network
    data: Data
    device: torch.device
    hidden_layers: int
    width: int | None
    recipe: Recipe | None
    seed: int
    callbacks: Sequence[Callback]

    def __post_init__(self) -> None:
        if isinstance(self.data.train, Loader) or isinstance(self.data.test, Loader):
            raise MinimandError(
                "features of a loader cannot be kept; expected tensors or a data set, or linear probes."
            )
        if (recipe := self.recipe) is not None and (recipe.mixup or recipe.cutmix):
            raise MinimandError(
                f"the recipe has mixup={recipe.mixup:g} and cutmix={recipe.cutmix:g}, and features are kept of single "
                "samples; expected 0 of both."
            )

    def fitted(self, shapes: Sequence[tuple[int, ...]], place: Place) -> Iterator[LayerSeparability]:
        """Fit the probes layer by layer."""
        data = self.data
        example, _ = next(self.batches(data.test, 0))
        first, *others = self.network.layers
        cache = Cache([lambda x: first(self.network.stem(x)), *others], example, place, torch.float32, 1)
        cache.check(len(data.train), len(data.test), None, "cache", "or fewer samples")
        sources = [Source(len(samples), 1, partial(self.batches, samples)) for samples in (data.train, data.test)]
        try:
            for j, shape in enumerate(shapes):
                with torch.no_grad():
                    train, test = cache.feed(j + 1, sources, self.device)
                yield self.fit(j, shape, replace(data, train=train, test=test, shape=shape))
        finally:
            cache.close()

    def batches(self, samples: Samples, view: int) -> Iterator[Batch]:
        """The batches of all samples, as the model sees them."""
        return as_prepared(self.data, samples, self.device).batches(_BATCH)

    def fit(self, j: int, shape: tuple[int, ...], features: Data) -> LayerSeparability:
        """Train a probe of layer j, counted from 0."""
        torch.manual_seed(self.seed)
        head = auxiliary("cnn", shape, features.num_outputs, self.hidden_layers, self.width)
        module = _ProbeOfLayer(self.network, j, head.to(self.device))
        result = fit(module, features, recipe=self.recipe, seed=self.seed, callbacks=self.callbacks, progress=False)
        train = evaluate(module, features, samples=features.train)
        return LayerSeparability(j + 1, shape, cast(float, train.accuracy), cast(float, result.test_accuracy))


class _ProbeOfLayer(nn.Module):
    """A classifier of what is read of the state above a layer."""

    def __init__(self, network: Network, j: int, head: nn.Module) -> None:
        super().__init__()
        self._network = (network,)  # in a tuple, so that it is no submodule
        self.j, self.head = j, head

    def forward(self, x: StateBatch) -> Tensor:
        with torch.no_grad():
            features = self._network[0].read(self.j, x.state)
        return self.head(features)

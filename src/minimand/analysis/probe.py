"""Separability: what a classifier can tell from each layer of a trained network (Belilovsky et al. 2019, 4.2)."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from .._support.checks import check_number
from .._support.environment import as_device
from .._support.errors import MinimandError, unknown_name
from .._support.seeds import random_state, restore_random_state
from ..data.conversion import as_data
from ..data.data import Data
from ..data.prepared import as_prepared
from ..data.samples import Batch, Loader, Samples
from ..layers.heads.auxiliary import auxiliary
from ..networks.as_network import as_network
from ..networks.protocol import Network
from ..recipes.recipe import Recipe
from ..trainability.measure.tracing import undisturbed
from ..training.arguments import check_seed
from ..training.fit import fit
from ..training.loop.evaluate import evaluate
from ..training.loop.events import Callback
from ..training.loop.state_batch import StateBatch
from ..training.methods.local.activations import Cache, Place, Source
from ..training.methods.local.partition import as_read
from .separability import LayerSeparability, ProbeKind, SeparabilityByLayer

_BATCH = 256
_ITERATIONS = 1000


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

    The network runs in evaluation mode, and only to make features; mode, buffers, gradients and random state stay as
    they are.

    Args:
        model: a network, or an nn.Sequential of its layers and its head; layer j is looked at by `read(j, state)`.
        data: as for `mm.fit`, of classes; probes are fitted to its training samples, which are not augmented.
        kind: `linear`, scikit-learn's logistic regression, one class against the rest, on the standardized 2 x 2
            average of a map (on the mean of tokens, on vectors as they are), or `cnn`, 3 x 3 convolutions with batch
            normalization, the average and a linear map (on tokens and vectors hidden layers).
        hidden_layers: the number of hidden layers of a `cnn` probe.
        width: the channels, or units, of the hidden layers; by default those of the features.
        recipe: the recipe of a `cnn` probe; by default one that suits the features.
        cache: where the features of a layer and the next are kept for `cnn` probes.
        seed: the seed of the weights of `cnn` probes and of the order of samples.
        device: by default where the model is, which is brought there.
        callbacks: as for `mm.fit`, of the training of each `cnn` probe.

    Raises:
        TypeError: the model is no network. ValueError: an argument that cannot be used, a regression, a layer whose
        state cannot be read, or no room for the features.
    """
    for what, name, known in (("kind of probe", kind, get_args(ProbeKind)), ("cache of probe", cache, get_args(Place))):
        if name not in known:
            raise unknown_name(what, str(name), known)
    check_number("hidden_layers", hidden_layers, 1, math.inf, whole=True)
    if width is not None:
        check_number("width", width, 1, math.inf, whole=True)
    check_seed(seed)
    network, data = as_network(model), as_data(data)
    if data.task != "classification":
        raise MinimandError(f"{data.name} is a regression; probes tell classes apart, and expect data of classes.")
    if device is not None:
        model.to(as_device(device))
    where = next((p.device for p in model.parameters()), torch.device("cpu"))
    before = random_state(where)
    name = f"{type(model).__name__} of {len(network.layers)} layers"
    try:
        with undisturbed(model):
            model.eval()
            shapes = _shapes(network, data, where)
            if kind == "linear":
                return SeparabilityByLayer(name, data.name, kind, 0, *_linear(network, data, shapes, where))
            probes = _ConvolutionalProbes(network, data, where, hidden_layers, width, recipe, seed, tuple(callbacks))
            return SeparabilityByLayer(name, data.name, kind, hidden_layers, tuple(probes.fitted(shapes, cache)))
    finally:
        restore_random_state(where, *before)


@torch.no_grad()
def _shapes(network: Network, data: Data, device: torch.device) -> list[tuple[int, ...]]:
    """The shapes of one sample of the features of each layer."""
    x = data.example(device, 2)
    try:
        return [tuple(features.shape[1:]) for features in _features(network, x)]
    except (RuntimeError, IndexError) as error:
        raise MinimandError(
            f"{type(network).__name__} fails on samples of {data.name}, which have the shape {tuple(x.shape[1:])}: "
            f"{str(error).splitlines()[0]}"
        ) from error


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
        accuracies = float(regression.score(x, y)), float(regression.score(x_test, y_test))
        layers.append(LayerSeparability(j, shape, *accuracies))
    return tuple(layers), tuple(unconverged)


def _averages(
    network: Network, data: Data, samples: Samples, shapes: Sequence[tuple[int, ...]], device: torch.device
) -> tuple[list[np.ndarray], np.ndarray]:
    """The averages (samples, features) of the features of each layer, by one pass over the samples; and the classes."""
    averages = [cast(nn.Sequential, auxiliary("linear", shape, data.num_outputs, norm=False))[:-1] for shape in shapes]
    parts: list[list[Tensor]] = [[] for _ in shapes]
    targets: list[Tensor] = []
    with torch.no_grad():
        for x, y in as_prepared(data, samples, device).batches(_BATCH):
            targets.append(y.cpu())
            for part, average, features in zip(parts, averages, _features(network, x), strict=True):
                part.append(average(features).float().cpu())
    return [torch.cat(part).numpy() for part in parts], torch.cat(targets).numpy()


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
        cache = Cache(self.steps, example, place, torch.float32, 1)
        cache.check(len(data.train), len(data.test), None, "cache", "or fewer samples")
        sources = [Source(len(samples), 1, partial(self.batches, samples)) for samples in (data.train, data.test)]
        try:
            for j, shape in enumerate(shapes):
                with torch.no_grad():
                    train, test = cache.feed(j + 1, sources, self.device)
                yield self.fit(j, shape, replace(data, train=train, test=test, shape=shape))
        finally:
            cache.close()

    @property
    def steps(self) -> list[Any]:
        """The functions from a batch to the state above the first layer, and on from layer to layer."""
        first, *others = self.network.layers
        return [lambda x: first(self.network.stem(x)), *others]

    def batches(self, samples: Samples, view: int) -> Iterator[Batch]:
        """The batches of all samples, as the model sees them."""
        return as_prepared(self.data, samples, self.device).batches(_BATCH)

    def fit(self, j: int, shape: tuple[int, ...], features: Data) -> LayerSeparability:
        """Train a probe of layer j, counted from 0."""
        torch.manual_seed(self.seed)
        head = auxiliary("cnn", shape, features.num_outputs, self.hidden_layers, self.width)
        module = _ProbeOfLayer(self.network, j, head.to(self.device))
        result = fit(module, features, recipe=self.recipe, seed=self.seed, callbacks=self.callbacks)
        train = evaluate(module, features, features.train)
        return LayerSeparability(j + 1, shape, cast(float, train.accuracy), cast(float, result.test_accuracy))


class _ProbeOfLayer(nn.Module):
    """A classifier of what is read of the state above a layer."""

    def __init__(self, network: Network, j: int, head: nn.Module) -> None:
        super().__init__()
        self._network = (network,)  # in a tuple, so that it is no submodule
        self.j, self.head = j, head

    def forward(self, x: StateBatch) -> Tensor:
        """Outputs for a batch of states."""
        with torch.no_grad():
            features = self._network[0].read(self.j, x.state)
        return self.head(features)

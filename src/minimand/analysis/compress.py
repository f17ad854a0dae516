"""Layerwise compression: each layer loses filters before the next one is trained on it (Belilovsky et al. 2019)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from .._support.checks import check_number
from .._support.environment import as_device
from .._support.errors import MinimandError
from .._support.tables import table_text
from .._support.torch_internals import BatchNorm
from ..data.conversion import as_data
from ..networks.as_network import as_network
from ..recipes.recipe import Recipe, default_recipe
from ..surgery.remove_filters import Layer, Removal, filters, leaves, origins_through
from ..trainability.measure.tracing import undisturbed
from ..training.fit import fit
from ..training.loop.evaluate import evaluate
from ..training.loop.events import Callback
from ..training.loop.losses import Loss, as_loss
from ..training.loop.problems import Problem
from ..training.loop.result import FitResult
from ..training.methods.local.layerwise import Layerwise, Shallow
from ..training.methods.method import Method

_BATCH = 256


@dataclass(frozen=True)
class CompressedLayer:
    """What became of a layer; accuracies from 0 to 1, on test samples, of its classifier."""

    name: str
    filters: int
    """That it had."""
    kept: tuple[int, ...]
    trained: float
    pruned: float
    """Without the filters that were removed."""
    tuned: float
    """With the classifier trained anew."""


@dataclass(frozen=True)
class Compression:
    """A network trained layer by layer, and made narrower on the way."""

    model: nn.Module = field(repr=False)
    test_accuracy: float
    layers: tuple[CompressedLayer, ...]
    parameters: tuple[int, int]
    """Of the model, before and after."""

    references: ClassVar = ("belilovsky2019greedy", "molchanov2017pruning")

    @property
    def kept(self) -> dict[str, tuple[int, ...]]:
        """The filters that are left, for `remove_filters` of a new model."""
        return {layer.name: layer.kept for layer in self.layers}

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "test_accuracy": self.test_accuracy,
            "parameters": list(self.parameters),
            "layers": [asdict(layer) for layer in self.layers],
        }

    def __str__(self) -> str:
        rows = [
            [x.name, f"{len(x.kept)} of {x.filters}", *(f"{100 * a:.2f}" for a in (x.trained, x.pruned, x.tuned))]
            for x in self.layers
        ]
        before, after = self.parameters
        note = f"test accuracy {100 * self.test_accuracy:.2f} %, {after:,} of {before:,} parameters"
        return table_text(["layer", "filters", "trained %", "pruned %", "tuned %"], rows, note=note, labels=1)


def compress(
    model: nn.Module,
    data: Any,
    keep: float = 0.5,
    method: Layerwise | None = None,
    recipe: Recipe | None = None,
    tuning_epochs: int | None = None,
    run: str | Path | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    callbacks: Iterable[Callback] = (),
) -> Compression:
    """Train a network layer by layer; remove filters of each layer before the next is trained. In place.

    A block is trained below its auxiliary classifier; the filters of its last layer that matter least
    (`taylor_importance`) are removed; the classifier alone is trained again; the next block sees what is left. The
    classifier of the last block is the network's head.

    Args:
        model: of convolutions or linear layers in nn.Sequential, such as
            `Sequential(Sequential(Conv2d, BatchNorm2d, ReLU), ..., head)`.
        data: as for `mm.fit`, of classes.
        keep: the share of filters that stays, of each layer one at least.
        method: how blocks and classifiers are cut; without cache.
        recipe: of each block; by default one that suits the data.
        tuning_epochs: of each classifier after its layer was pruned; by default those of a block.
        run: a folder for a run of each training; given again, they go on where they were.
        seed: as for `mm.fit`.
        device: by default where the model is.
        callbacks: as for `mm.fit`, of each training.

    Raises:
        TypeError, ValueError: an argument that cannot be used, or a layer whose filters cannot be removed, such as one
        that a sum reads. Nothing is trained then.
    """
    check_number("keep", keep, 0, 1)
    if tuning_epochs is not None:
        check_number("tuning_epochs", tuning_epochs, 1, math.inf, whole=True)
    method = Layerwise() if method is None else method
    if not isinstance(method, Layerwise) or method.cache != "off":
        raise MinimandError(f"method is {method!r}; expected an mm.Layerwise with cache='off'.")
    network, data, callbacks = as_network(model), as_data(data), tuple(callbacks)
    if data.task != "classification":
        raise MinimandError(f"{data.name} is a regression; compression is judged by accuracy and expects classes.")
    if device is not None:
        model.to(as_device(device))
    where = next(model.parameters()).device
    recipe = recipe or default_recipe(data, model, where)
    before = _parameters(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        problems = method.plan(model, lambda: data.example(where), data.num_outputs, recipe.epochs).problems
    removals = _removals(model, problems)

    def trained(module: nn.Module, epochs: int, name: str) -> FitResult:
        folder = None if run is None else Path(run) / name
        shorter = replace(recipe, epochs=epochs)
        return fit(module, data, _Alone(method), shorter, run=folder, seed=seed, callbacks=callbacks)

    layers: list[CompressedLayer] = []
    result = None
    for j, (problem, removal) in enumerate(zip(problems, removals, strict=True)):
        module = cast(Shallow, problem.module)
        result = trained(module, problem.epochs, f"layer-{j + 1}")
        if removal is None:
            continue
        count, accuracy = filters(removal.layer), cast(float, result.test_accuracy)
        best = taylor_importance(module, removal.layer, data).topk(max(round(keep * count), 1))
        kept = tuple(sorted(best.indices.tolist()))
        removal.keep(kept)
        pruned = cast(float, evaluate(module, data).accuracy)
        # A block of no layers: all that is trained is the classifier.
        stop, head = module.block.stop, None if module.head is network.head else module.head
        alone = Shallow(model, network, range(stop, stop), head)
        result = trained(alone, tuning_epochs or problem.epochs, f"layer-{j + 1}-classifier")
        tuned = cast(float, result.test_accuracy)
        layers.append(CompressedLayer(removal.name, count, kept, accuracy, pruned, tuned))
    assert result is not None
    return Compression(model, cast(float, result.test_accuracy), tuple(layers), (before, _parameters(model)))


@dataclass(frozen=True)
class _Alone(Method):
    """A problem of a method as if it were all."""

    method: Layerwise

    def backward(self, model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        return self.method.backward(model, x, y, loss)


def taylor_importance(module: nn.Module, layer: nn.Module, data: Any) -> Tensor:
    """What the loss would change by, to first order, without each filter of a layer.

    |mean over the map of z dC/dz|, averaged over the training samples, where z is the output of the layer behind its
    normalization and activation (Molchanov et al. 2017, eq. 8). In evaluation mode, and the module is left as it was.

    Args:
        module: from a batch to outputs; the layer stands in it, in nn.Sequential.
        layer: a Conv2d or a Linear.
        data: what the loss C is of; as for `mm.fit`.

    Returns:
        (filters,), not negative.

    Raises:
        ValueError: the layer has no filters, or does not stand there.
    """
    data = as_data(data)
    device = next(module.parameters()).device
    judge = as_loss(None, data)
    seen: list[Tensor] = []

    def look(_: nn.Module, __: Any, output: Tensor) -> None:
        seen.append(output)

    hook = _activation(module, layer).register_forward_hook(look)
    total = torch.zeros((), device=device)
    try:
        with undisturbed(module):
            module.eval()
            for inputs, targets in data.train.batches(_BATCH):
                y = targets.to(device)
                loss = judge(module(data.prepare(inputs.to(device))), y)
                z = seen.pop()
                (gradient,) = torch.autograd.grad(loss, z)
                change = (len(y) * z.detach() * gradient).reshape(*z.shape[:2], -1).mean(2)
                total = total + change.abs().sum(0)
    finally:
        hook.remove()
    return total / len(data.train)


def _activation(module: nn.Module, layer: nn.Module) -> nn.Module:
    """What gives the feature maps of a layer: normalization behind it, and one module that keeps them apart."""
    chain = next((chain for part in module.modules() if layer in (chain := leaves(part))), None)
    if chain is None or not isinstance(layer, Layer):
        raise MinimandError(
            f"layer is a {type(layer).__name__}; expected a Conv2d or Linear in nn.Sequential of the module."
        )
    at, flat, own = layer, isinstance(layer, nn.Linear), torch.arange(filters(layer))
    for following in chain[chain.index(layer) + 1 :]:
        if not isinstance(following, BatchNorm):
            traced = None if isinstance(following, nn.Flatten) else origins_through(following, len(own), flat)
            return at if traced is None or not torch.equal(traced, own) else following
        at = following
    return at


def _removals(model: nn.Module, problems: Sequence[Problem]) -> list[Removal | None]:
    """Of the last layer with filters of each block; None of a block without any."""
    network = as_network(model)
    names = {module: name for name, module in model.named_modules()}
    found: list[Removal | None] = []
    for problem in problems:
        module = cast(Shallow, problem.module)
        block = leaves(*(network.layers[j] for j in module.block))
        layers = [i for i, leaf in enumerate(block) if isinstance(leaf, Layer)]
        if not layers:
            found.append(None)
            continue
        after = block[layers[-1] + 1 :]
        rest = leaves(*(network.layers[j] for j in range(module.block.stop, len(network.layers))), network.head)
        chains = [[*after, *rest], *([[*after, *leaves(module.head)]] if module.head is not network.head else [])]
        layer = cast(Layer, block[layers[-1]])
        found.append(Removal(layer, chains, names[layer]))
    if not any(found):
        kinds = ", ".join(dict.fromkeys(type(leaf).__name__ for leaf in leaves(*network.layers)))
        raise MinimandError(
            f"{type(model).__name__} has no layer whose filters could be removed; expected Conv2d or Linear in layers "
            f"of nn.Sequential, not inside others, whose sums need all of them. Its layers are made of {kinds}."
        )
    return found


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())

"""Layerwise compression: each layer loses filters before the next one is trained on it (Belilovsky et al. 2019)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from .._support.checks import check_number
from .._support.errors import MinimandError
from .._support.tables import table_text
from .._support.torch.environment import as_device
from .._support.torch.internals import BatchNorm
from ..data import Data, as_data
from ..data.data import as_prepared
from ..networks.as_network import as_network
from ..networks.kinds import check_model, count_parameters
from ..networks.undisturbed import undisturbed
from ..recipes.recipe import Recipe, as_precision, default_recipe
from ..surgery.remove_filters import FilterLayer, FiltersRemoved, Removal, filters, leaves, origins_through
from ..training import Method, evaluate, fit
from ..training.loop.events import Callback
from ..training.loop.losses import Loss, as_loss
from ..training.loop.problems import Plan, Problem
from ..training.methods.local.layerwise import Layerwise, Shallow

_BATCH = 256


@dataclass(frozen=True)
class CompressedLayer:
    """What became of a layer in a compression; accuracies of its classifier on test samples, from 0 to 1."""

    name: str
    filters: int
    """The number of filters before the compression."""
    kept: tuple[int, ...]
    """The filters that are left, counted from 0."""
    trained: float
    pruned: float
    """The accuracy just after filters were removed."""
    tuned: float
    """The accuracy after the classifier was trained again."""


@dataclass(frozen=True)
class Compression:
    """A network trained layer by layer, and made narrower on the way."""

    model: nn.Module = field(repr=False)
    test_accuracy: float
    layers: tuple[CompressedLayer, ...]
    parameters: tuple[int, int]
    """The number of parameters of the model, before and after."""

    references: ClassVar = ("belilovsky2019greedy", "molchanov2017pruning")

    @property
    def kept(self) -> dict[str, tuple[int, ...]]:
        """The filters that are left in each layer, for `remove_filters` of a new model."""
        return {layer.name: layer.kept for layer in self.layers}

    def to_dict(self) -> dict[str, Any]:
        """The compression as plain values, without the model."""
        layers = [asdict(layer) for layer in self.layers]
        return {"test_accuracy": self.test_accuracy, "parameters": list(self.parameters), "layers": layers}

    def __str__(self) -> str:
        rows = []
        for x in self.layers:
            accuracies = (f"{100 * accuracy:.2f}" for accuracy in (x.trained, x.pruned, x.tuned))
            rows.append([x.name, f"{len(x.kept)} of {x.filters}", *accuracies])
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

    A block is trained below its auxiliary classifier, of the last block the network's head; the filters of its last
    layer that matter least (`taylor_importance`) are removed; the classifier alone is trained again.

    Args:
        model: of convolutions or linear layers in nn.Sequential, such as
            `Sequential(Sequential(Conv2d, BatchNorm2d, ReLU), ..., head)`, or torchvision's VGG.
        data: as for `mm.fit`, of classes.
        keep: the share of filters that stays, of each layer one at least.
        method: how blocks and classifiers are cut; without cache.
        recipe: the recipe of each block; by default one that suits the data.
        tuning_epochs: epochs of each classifier after its layer was pruned; by default those of a block.
        run: a folder for a run of each training; given again, they go on where they were.
        seed: as for `mm.fit`, of each training.
        device: as for `mm.fit`, of each training.
        callbacks: as for `mm.fit`, of each training.

    Raises MinimandError before anything is trained for a layer whose filters cannot be removed, as a sum reads them.
    """
    check_number("keep", keep, 0, 1)
    if tuning_epochs is not None:
        check_number("tuning_epochs", tuning_epochs, 1, math.inf, whole=True)
    method = Layerwise() if method is None else method
    if not isinstance(method, Layerwise) or method.cache != "off":
        raise MinimandError(f"method is {method!r}; expected an mm.Layerwise with cache='off'.")
    if method.auxiliary == "auglocal":
        raise MinimandError(
            "Layerwise.auxiliary is 'auglocal', whose copies keep the channels of layers that lose theirs later; "
            "expected another, such as 'cnn'."
        )
    check_model(model)
    data = as_data(data)
    if data.is_text:
        raise MinimandError(f"{data.name} is a text; compression is judged by accuracy and expects classes.")
    if data.task != "classification":
        raise MinimandError(f"{data.name} is a regression; compression is judged by accuracy and expects classes.")
    if device is not None:
        model.to(as_device(device))
    as_network(model, data.example(next(model.parameters()).device))
    recipe = recipe or default_recipe(data, model)
    # One precision for all problems, that in which `mm.evaluate` judges the whole model.
    place = next(model.parameters()).device
    recipe = replace(recipe, precision=as_precision(recipe.precision, data, model, place))
    frozen = frozenset(part for part in model.modules() if model.training and not part.training)
    return _Compressor(model, data, method, recipe, run, seed, tuple(callbacks), frozen).compress(keep, tuning_epochs)


@dataclass(frozen=True)
class _Compressor:
    """The trainings of a compression, each with a run in a folder of its own."""

    model: nn.Module
    data: Data
    method: Layerwise
    recipe: Recipe
    run: str | Path | None
    seed: int
    callbacks: Sequence[Callback]
    frozen: frozenset[nn.Module]
    """The modules that the caller put in evaluation mode, in a model that is in training mode."""

    def compress(self, keep: float, tuning_epochs: int | None) -> Compression:
        """Train, prune and tune the blocks one after another."""
        model = self.model
        parameters = count_parameters(model)
        problems = self._plan().problems
        layers: list[CompressedLayer] = []
        test_accuracy = 0.0
        for j, (problem, removal) in enumerate(zip(problems, _removals(model, problems), strict=True), 1):
            module = cast(Shallow, problem.module)
            trained = test_accuracy = self._trained(module, problem.epochs, f"layer-{j}")
            if removal is None:
                continue
            count = filters(removal.layer)
            best = taylor_importance(module, removal.layer, self.data).topk(max(round(keep * count), 1))
            kept_filters = tuple(sorted(best.indices.tolist()))
            removal.keep(kept_filters)
            pruned = cast(float, evaluate(module, self.data).accuracy)
            stop, head = module.block.stop, None if module.is_last else module.head
            classifier = Shallow(model, module.network, range(stop, stop), head)  # below it a block of no layers
            test_accuracy = self._trained(classifier, tuning_epochs or problem.epochs, f"layer-{j}-classifier")
            layers.append(CompressedLayer(removal.name, count, kept_filters, trained, pruned, test_accuracy))
        FiltersRemoved(model, {layer.name: (layer.filters, len(layer.kept)) for layer in layers})
        return Compression(model, test_accuracy, tuple(layers), (parameters, count_parameters(model)))

    def _plan(self) -> Plan:
        data, device = self.data, next(self.model.parameters()).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.method.plan(self.model, lambda: data.example(device), data.num_outputs, self.recipe.epochs)

    def _trained(self, module: nn.Module, epochs: int, name: str) -> float:
        """The test accuracy of a module after a training in a folder of that name."""
        folder = None if self.run is None else Path(self.run) / name
        method, recipe = _WholeModule(self.method), replace(self.recipe, epochs=epochs)
        # Planning put what lies below any problem in evaluation mode, in which `fit` would leave it as frozen.
        module.train()
        for part in self.frozen.intersection(module.modules()):
            part.training = False
        result = fit(
            module,
            self.data,
            method=method,
            recipe=recipe,
            run=folder,
            seed=self.seed,
            callbacks=self.callbacks,
            progress=False,
        )
        return cast(float, result.test_accuracy)


@dataclass(frozen=True)
class _WholeModule(Method):
    """A method that trains all of a module as one problem, by the updates of another method."""

    method: Layerwise

    def backward(self, model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        return self.method.backward(model, x, y, loss)


def taylor_importance(module: nn.Module, layer: nn.Module, data: Any) -> Tensor:
    """The change of the loss, to first order, if each filter of a layer were left out.

    |mean over the map of z dC/dz|, averaged over the training samples, where z is the output of the layer behind its
    normalization and activation (Molchanov et al. 2017, eq. 8): a tensor (filters,). The module runs in evaluation mode
    and stays as it was; the layer, a Conv2d or a Linear, stands in it in nn.Sequential; `data` is as for `mm.fit`.
    """
    data = as_data(data)
    device = next(module.parameters()).device
    loss_function = as_loss(None, data)
    outputs: list[Tensor] = []
    hook = _activation(module, layer).register_forward_hook(lambda *call: outputs.append(call[2]))
    total = torch.zeros((), device=device)
    try:
        with undisturbed(module):
            module.eval()
            for x, y in as_prepared(data, data.train, device).batches(_BATCH):
                loss = loss_function(module(x), y)
                z = outputs.pop()
                (gradient,) = torch.autograd.grad(loss, z)
                change = (len(y) * z.detach() * gradient).reshape(*z.shape[:2], -1).mean(2)
                total = total + change.abs().sum(0)
    finally:
        hook.remove()
    return total / len(data.train)


def _activation(module: nn.Module, layer: nn.Module) -> nn.Module:
    """The module that gives the feature maps of a layer: a normalization behind it, or the activation behind that."""
    chain = next((chain for part in module.modules() if layer in (chain := leaves(part))), None)
    if chain is None or not isinstance(layer, FilterLayer):
        raise MinimandError(
            f"layer is a {type(layer).__name__}; expected a Conv2d or Linear in nn.Sequential of the module."
        )
    last, flat, in_order = layer, isinstance(layer, nn.Linear), torch.arange(filters(layer))
    for following in chain[chain.index(layer) + 1 :]:
        if not isinstance(following, BatchNorm):
            origins = None if isinstance(following, nn.Flatten) else origins_through(following, len(in_order), flat)
            return last if origins is None or not torch.equal(origins, in_order) else following
        last = following
    return last


def _removals(model: nn.Module, problems: Sequence[Problem]) -> list[Removal | None]:
    """The removal of filters of the last layer that has any, for each block; None for a block without such a layer."""
    network = cast(Shallow, problems[0].module).network
    names = {module: name for name, module in model.named_modules()}
    removals: list[Removal | None] = []
    for problem in problems:
        module = cast(Shallow, problem.module)
        block = leaves(*(network.layers[j] for j in module.block))
        positions = [i for i, leaf in enumerate(block) if isinstance(leaf, FilterLayer)]
        if not positions:
            removals.append(None)
            continue
        layer, after = cast(FilterLayer, block[positions[-1]]), block[positions[-1] + 1 :]
        above = (network.layers[j] for j in range(module.block.stop, len(network.layers)))
        chains = [[*after, *leaves(*above, network.head)]]
        if not module.is_last:
            chains.append([*after, *leaves(module.head)])
        removals.append(Removal(model, layer, chains, names[layer]))
    if not any(removals):
        kinds = ", ".join(dict.fromkeys(type(leaf).__name__ for leaf in leaves(*network.layers)))
        raise MinimandError(
            f"{type(model).__name__} has no layer whose filters could be removed; expected Conv2d or Linear in layers "
            f"of nn.Sequential, not inside others, whose sums need all of them. Its layers are made of {kinds}."
        )
    return removals

"""Normalizations of weights that are zero, constant, tiny, huge or not finite, and of batches without variance."""

import copy
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.surgery.normalizations import NORMALIZATIONS, BetweenLayers, OfWeights
from sweeps import crossed

WEIGHTS = [name for name, kind in NORMALIZATIONS.items() if issubclass(kind, OfWeights)]
BETWEEN = ["group(groups=2)" if n == "group" else n for n, k in NORMALIZATIONS.items() if issubclass(k, BetweenLayers)]


def _scaled(factor: float) -> Callable[[Tensor], Any]:
    return lambda weight: weight.mul_(factor)


DEGENERATE: dict[str, Callable[[Tensor], Any]] = {
    "a filter of zeros": lambda weight: weight[1].zero_(),
    "zeros": lambda weight: weight.zero_(),
    "a constant filter": lambda weight: weight[0].fill_(0.7),
    "constants": lambda weight: weight.fill_(-2.0),
    "one filter for all": lambda weight: weight.copy_(weight[:1].expand_as(weight)),
    "1e-30": _scaled(1e-30),
    "1e-12": _scaled(1e-12),
    "1e18": _scaled(1e18),
    "1e25": _scaled(1e25),
    "a subnormal filter": lambda weight: weight[0].fill_(1e-42),
}
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(4, 4),
    "convolution": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "grouped": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "transposed": lambda: nn.ConvTranspose2d(4, 4, 3, padding=1),
}


def _model(layer: str) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(LAYERS[layer](), nn.Linear(4, 4) if layer == "linear" else nn.Conv2d(4, 4, 1))


@pytest.mark.parametrize(
    ("kind", "weights", "layer"),
    crossed(WEIGHTS, DEGENERATE, LAYERS, through=(WEIGHTS[0], "a filter of zeros", "convolution")),
)
def test_degenerate_weights_never_give_nan_and_come_back_by_undo(kind: str, weights: str, layer: str) -> None:
    model = _model(layer)
    with torch.no_grad():
        DEGENERATE[weights](cast(nn.Linear, model[0]).weight)
    x = torch.randn(3, 4) if layer == "linear" else torch.randn(3, 4, 5, 5)
    reference = copy.deepcopy(model)
    mm.normalize(model, kind)
    (record,) = mm.changes(model)
    with torch.no_grad():
        y, before = model(x), reference(x)
    assert y.isfinite().all()
    if kind == "weight":  # the same network at first, the filters of zeros too
        torch.testing.assert_close(y, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    left = dict(cast(Any, record).left)
    if weights in ("1e18", "1e25") and kind in ("spectral", "operator_norm"):
        assert "too large" in left["0"] or "transposed" in left["0"]
        return
    if (weights in ("zeros", "1e-30", "1e-12") and "spectral" in kind) or (kind == "operator_norm" and "0" in left):
        assert "its weight is 0" in left["0"] or "transposed" in left["0"]
    if weights not in ("1e18", "1e25"):  # whose gradients are as large
        model(x).square().mean().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    mm.changes(model).undo()
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-6, atol=0)
    assert list(model.state_dict()) == list(reference.state_dict())


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_not_finite_are_named(kind: str) -> None:
    model = _model("convolution")
    with torch.no_grad():
        cast(nn.Linear, model[1]).weight[2] = float("nan")
        cast(nn.Linear, model[1]).weight[3, 1] = float("inf")
    with pytest.raises(ValueError, match="the weight of 1 is not finite, in filter 2 and 1 more"):
        mm.normalize(model, kind)
    assert len(mm.changes(model)) == 0


def test_a_filter_of_zeros_learns_under_weight_normalization() -> None:
    model = _model("convolution")
    with torch.no_grad():
        cast(nn.Conv2d, model[0]).weight[1] = 0
    mm.normalize(model, "weight")
    mm.fit(
        nn.Sequential(model, nn.Flatten(), nn.Linear(100, 2)),
        (torch.randn(64, 4, 5, 5), torch.randint(2, (64,))),
        recipe=mm.Recipe(1),
    )
    filters = cast(Tensor, cast(nn.Conv2d, model[0]).weight)
    assert filters.isfinite().all()
    assert (filters[1] != 0).any()


@pytest.mark.parametrize("values", [0.0, 3.0, 1e-30, 1e15])
@pytest.mark.parametrize("shape", [(4, 6), (6, 6), (4, 6, 5), (4, 6, 3, 3), (1, 6, 3, 3)])
@pytest.mark.parametrize("kind", BETWEEN)
def test_batches_without_variance_never_give_nan(kind: str, shape: tuple[int, ...], values: float) -> None:
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](6)
    model = nn.Sequential(norm)
    if kind != "batch":
        mm.normalize(model, kind)
    x = torch.full(shape, values, requires_grad=True)
    if kind == "instance" and len(shape) == 2:
        for training in (True, False):
            with pytest.raises(ValueError, match="a vector has no positions"):
                model.train(training)(x)
        return
    y = model(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert cast(Tensor, x.grad).isfinite().all()
    assert model.eval()(x.detach()).isfinite().all()


@pytest.mark.parametrize("there", ["group(groups=2)", "layer", "rms", "switchable", "instance"])
@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, lambda c: nn.GroupNorm(3, c), nn.LayerNorm],
    ids=["1d", "2d", "3d", "group", "layer"],
)
def test_there_and_back_is_the_same_network_by_the_same_names(norm: Callable[[int], nn.Module], there: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), norm(6))
    back = {nn.GroupNorm: "group(groups=3)", nn.LayerNorm: "layer"}.get(type(model[1]), "batch")
    if there == back:
        return
    with torch.no_grad():
        cast(nn.Linear, model[1]).weight.normal_()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    mm.normalize(model, there)
    mm.normalize(model, back)
    after = model.state_dict()
    assert list(after) == list(before)
    names = [name for name in before if "running" not in name and "tracked" not in name]
    assert all(torch.equal(after[name], before[name]) for name in names if there != "rms" or "bias" not in name)
    mm.changes(model).undo()
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_there_and_back_of_a_normalization_with_an_activation_inside() -> None:
    from minimand._support.torch.torchvision import require_timm

    layers = require_timm().layers
    model = nn.Sequential(nn.Conv2d(3, 6, 3), layers.BatchNormAct2d(6))
    before = {name: t.clone() for name, t in model.state_dict().items()}
    mm.normalize(model, "group(groups=2)")
    mm.normalize(model, "layer")
    mm.normalize(model, "batch")
    assert {name: t.shape for name, t in model.state_dict().items()} == {n: t.shape for n, t in before.items()}
    x = torch.randn(4, 3, 8, 8)
    assert (model(x) >= 0).all()
    assert len(list(mm.changes(model))) == 3
    mm.changes(model).undo()
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())

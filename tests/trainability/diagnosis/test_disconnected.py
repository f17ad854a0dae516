"""Gradients that are cut, that are NaN, and that are exactly 0 are three things, each told with its place."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.trainability.measure.reading import NO_GRADIENT, NOT_MEASURED, Missing, is_nan, number, ratio

WIDTH = 16


class Chain(nn.Module):
    """Linear layers and ReLU; after layer `place` something is done to what passes."""

    def __init__(self, between: Callable[[Tensor], Tensor], place: int = 1, depth: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.between, self.place = between, place

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = torch.relu(layer(x))
            if i == self.place:
                x = self.between(x)
        return x


class WithoutGradients(Chain):
    """Layers of which the first run where no gradients are recorded."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            for layer in self.layers[: self.place + 1]:
                x = torch.relu(layer(x))
        for layer in self.layers[self.place + 1 :]:
            x = torch.relu(layer(x))
        return x


class _Swallow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return None


def _through_numpy(h: Tensor) -> Tensor:
    return torch.from_numpy(h.detach().numpy() * 2)


CUTS: dict[str, tuple[type[Chain], Callable[[Tensor], Tensor], str]] = {
    "detach": (Chain, lambda h: h.detach(), "detach()"),
    "data": (Chain, lambda h: h.data * 1, ".data"),
    "numpy": (Chain, _through_numpy, "numpy()"),
    "a list": (Chain, lambda h: torch.tensor(h.tolist()), "tolist()"),
    "no_grad": (WithoutGradients, lambda h: h, "torch.no_grad()"),
    "a comparison": (Chain, lambda h: (h > 0).float(), "compared"),
    "integers": (Chain, lambda h: nn.functional.one_hot(h.argmax(1), WIDTH).float(), "argmax"),
    "a function without backward": (Chain, lambda h: _Swallow.apply(h), "autograd.Function"),
}


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("name", CUTS)
def test_every_parameter_before_a_cut_is_named_with_the_cause(name: str, place: int) -> None:
    kind, between, cause = CUTS[name]
    report = mm.diagnose(kind(between, place), torch.randn(32, WIDTH))
    verdict = report.verdict
    assert (verdict.code, verdict.severity, verdict.layer) == ("disconnected", "fatal", f"layers.{place}")
    assert cause in verdict.reason
    assert verdict.action
    lost = {f"layers.{i}.{leaf}" for i in range(place + 1) for leaf in ("weight", "bias")}
    assert {one.parameter for one in report.disconnected} == lost
    codes = [v.code for v in report.verdicts]
    assert codes[: place + 1] == ["disconnected"] * (place + 1)
    assert "disconnected" not in codes[place + 1 :]
    if kind is Chain and name != "a function without backward":
        assert "test_disconnected.py, line" in verdict.reason
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize("name", ["detach", "a comparison"])
def test_a_layer_with_another_path_is_connected(name: str) -> None:
    _, between, _ = CUTS[name]
    report = mm.diagnose(Chain(lambda h: h + between(h)), torch.randn(32, WIDTH))
    assert not report.disconnected
    assert report.verdict.code == "ok", str(report.verdict)


def test_frozen_layers_may_run_without_gradients() -> None:
    model = WithoutGradients(lambda h: h)
    model.layers[:2].requires_grad_(False)
    report = mm.diagnose(model, torch.randn(32, WIDTH))
    assert not report.disconnected
    assert report.layers[0].weight_gradient is NOT_MEASURED


class Heads(nn.Module):
    """A network with a layer that only training runs, one that nothing runs, and one whose output nobody takes."""

    def __init__(self, *extra: str) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.extra = nn.ModuleDict({name: nn.Linear(8, 3) for name in extra})

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h = torch.relu(self.body(self.embed(x).mean(1)))
        if "ignored" in self.extra:
            self.extra["ignored"](h)
        if self.training and "auxiliary" in self.extra:
            return self.head(h), self.extra["auxiliary"](h)
        return self.head(h)


@pytest.mark.parametrize(
    ("extra", "cause"), [("auxiliary", None), ("idle", "it never runs"), ("ignored", "nothing that is made of it")]
)
def test_layers_that_take_no_part_are_a_warning(extra: str, cause: str | None) -> None:
    verdict = mm.diagnose(Heads(extra), torch.randint(9, (16, 5))).verdict
    if cause is None:
        assert verdict.code == "ok"
    else:
        assert (verdict.code, verdict.layer, verdict.severity) == ("disconnected", f"extra.{extra}", "warning")
        assert cause in verdict.reason


def test_embeddings_and_normalizations_are_connected_too() -> None:
    class Net(nn.Module):
        def __init__(self, detach: str) -> None:
            super().__init__()
            self.embed, self.body, self.norm = nn.Embedding(9, 8), nn.Linear(8, 8), nn.LayerNorm(8)
            self.head, self.detach = nn.Linear(8, 3), detach

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x).mean(1)
            x = self.body(x.detach() if self.detach == "embed" else x)
            x = self.norm(x)
            return self.head(x.detach() if self.detach == "norm" else x)

    for name, lost in (("embed", {"embed"}), ("norm", {"embed", "body", "norm"})):
        report = mm.diagnose(Net(name), torch.randint(9, (16, 5)))
        assert report.verdict.code == "disconnected"
        assert "detach()" in report.verdict.reason
        assert {one.layer for one in report.disconnected} == lost


def test_a_gradient_that_is_nan_is_neither_cut_nor_zero() -> None:
    def rooted(h: Tensor) -> Tensor:
        h = h - 0.2
        return torch.where(h > 0, h.sqrt(), torch.zeros(()))

    report = mm.diagnose(Chain(rooted), torch.randn(32, WIDTH))
    assert (report.verdict.code, report.verdict.layer) == ("nonfinite", "layers.1")
    assert "Sqrt" in report.verdict.reason
    assert "clamp_min" in str(report.verdict.action)
    assert is_nan(report.layers[1].gradient)
    assert not report.disconnected
    repaired = mm.diagnose(
        Chain(lambda h: torch.where(h > 0.2, (h - 0.2).clamp_min(1e-6).sqrt(), 0)), torch.randn(32, 16)
    )
    assert repaired.verdict.code == "ok"


def test_what_is_missing_is_told_by_type() -> None:
    cut, rounded, whole = (
        mm.diagnose(Chain(between), torch.randn(32, WIDTH)).layers
        for between in (Tensor.detach, torch.round, lambda h: h)
    )
    assert cut[1].gradient is NO_GRADIENT
    assert cut[1].weight_gradient is NO_GRADIENT
    assert rounded[1].gradient == 0.0
    assert number(whole[1].gradient, 0.0) > 0
    assert whole[1].loss_gradient is NOT_MEASURED
    for stat in (*cut, *rounded, *whole):
        readings = [value for value in vars(stat).values() if isinstance(value, float)]
        assert all(value == value for value in readings), "NaN stands for something that was not measured"
    assert ratio(1.0, NO_GRADIENT) is NO_GRADIENT
    assert isinstance(ratio(1.0, 0.0), Missing)

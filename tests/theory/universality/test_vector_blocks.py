"""What stands between the linear maps of a block of vectors, and what its certificate says of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minimand as mm
from minimand.blocks.convolutional import Skip
from minimand.blocks.dense import two_layer
from minimand.blocks.highway import HighwayBranch
from minimand.blocks.registry import BLOCKS
from minimand.layers.thresholds import Sign


class Between(nn.Module):
    """A function between two linear maps, written as code."""

    def __init__(self, function: Callable[[Tensor], Any], hidden: int = 8, bias: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8, bias=bias), nn.Linear(hidden, 4)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        between = self.function(self.first(x))
        return self.second(between[0] if isinstance(between, tuple) else between)


class Snake(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h + torch.sin(h) ** 2


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(torch.relu(self.map(x)))


def _lines(block: nn.Module, **options: Any) -> dict[str, str]:
    certificate = mm.certify("heavy_ball", depth=4, block=block, **options)
    return {s.name or "obstruction": f"{s.verdict}: {s.reason}" for s in certificate.statements}


BY_ENTRY: list[Callable[[Tensor], Tensor]] = [
    lambda h: h * torch.sigmoid(h),
    lambda h: h + torch.sin(h) ** 2,
    lambda h: torch.where(h > 0, h, 0.1 * h),
    lambda h: (h.clamp(min=0) + torch.tanh(h)) / 2,
    lambda h: F.threshold(h, 0.0, 0.0),
    torch.sinc,
    Snake(),
    Sign(),
    nn.Hardshrink(),
    nn.Threshold(0.0, 0.0),
]
MIXING: list[tuple[Callable[[Tensor], Any], int]] = [
    (nn.Softmax(-1), 8),
    (lambda h: h.softmax(-1), 8),
    (nn.LogSoftmax(-1), 8),
    (nn.GLU(), 4),
    (lambda h: F.silu(h[..., :4]) * h[..., 4:], 4),
    (nn.GRU(8, 8), 8),
    (nn.LSTM(8, 8), 8),
    (nn.RNNCell(8, 8), 8),
    (nn.LocalResponseNorm(2), 8),
    (lambda h: F.normalize(h, dim=-1), 8),
    (lambda h: h / h.norm(), 8),
    (lambda h: h.sort(-1)[0], 8),
    (lambda h: torch.relu(h).cumsum(-1), 8),
    (lambda h: torch.relu(h - h.mean(-1, keepdim=True)), 8),
    (lambda h: h * (h > h.topk(3).values[..., -1:]), 8),
]


@pytest.mark.parametrize("function", BY_ENTRY)
def test_one_function_of_every_entry_is_an_activation_however_it_is_written(function: Callable[[Tensor], Any]) -> None:
    assert _lines(Between(function))["U1"].startswith("universal: equals any shallow net")


@pytest.mark.parametrize(("function", "hidden"), MIXING)
def test_what_mixes_entries_is_no_activation_and_nothing_is_promised(
    function: Callable[[Tensor], Any], hidden: int
) -> None:
    lines = _lines(Between(function, hidden))
    assert "obstruction" not in lines
    assert all(line.startswith("not covered: ") for line in lines.values())
    assert "is not known as linear, nor as one function of every entry" in lines["U1"] or "mean inside" in lines["U1"]


@pytest.mark.parametrize(
    ("block", "missing"),
    [
        (Between(lambda h: h * h), "a polynomial, of degree 2"),
        (Between(lambda h: h**3 - h), "a polynomial, of degree 3"),
        (Between(torch.relu, bias=False), "no bias before the activation"),
        (nn.Sequential(nn.LayerNorm(4), Between(torch.relu)), "LayerNorm inside the block, which is not affine"),
        (nn.Sequential(nn.RMSNorm(4), Between(torch.relu)), "RMSNorm inside the block, which is not affine"),
        (nn.Sequential(Between(torch.relu), nn.LayerNorm(4)), "LayerNorm inside the block, which is not affine"),
        (nn.Sequential(Between(torch.tanh), nn.Tanh(), nn.Linear(4, 4)), "2 activations between linear maps"),
        (nn.Sequential(nn.Tanh(), Between(torch.tanh)), "Tanh, which is linear nowhere, before the first linear map"),
        (Skip(Between(torch.relu), nn.Tanh(), nn.Identity()), "add takes in what has passed no linear map"),
        (BLOCKS["convex_gradient"].make(width=4), "has the weights of a linear map before it"),
        (Tied(), "Linear has the weights of a linear map before it"),
        (HighwayBranch(4), "sub takes the input away, which no weight turns off"),
        (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.AvgPool1d(2), nn.Linear(4, 4)), "AvgPool1d inside the block"),
    ],
)
def test_what_a_block_lacks_of_a_shallow_net_is_said(block: nn.Module, missing: str) -> None:
    lines = _lines(block)
    for name in ("U1", "U2"):
        assert lines[name].startswith("not covered: ")
        assert missing in lines[name]


@pytest.mark.parametrize("act", [nn.LeakyReLU(1.0), nn.Identity(), Between(lambda h: 2 * h + h + 1).function])
def test_an_activation_that_is_affine_is_none(act: Callable[[Tensor], Tensor]) -> None:
    assert _lines(Between(act))["obstruction"] == "not universal: no activation: affine maps only"


@pytest.mark.parametrize(
    ("block", "condition"),
    [
        (
            nn.Sequential(nn.ReLU(), *two_layer(4, 8)),
            "inputs are bounded, where its first activation can be made linear",
        ),
        (nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)), "that of evaluation"),
        (nn.Sequential(nn.BatchNorm1d(4), Between(torch.relu, bias=False)), "that of evaluation, which is affine"),
        (Skip(two_layer(4, 8), nn.Identity(), nn.Identity()), "T is the block without its skip"),
    ],
)
def test_what_holds_on_a_condition_names_it(block: nn.Module, condition: str) -> None:
    lines = _lines(block)
    for name in ("U1", "U2"):
        assert lines[name].startswith("universal: ")
        assert condition in lines[name]


def test_polynomials_and_two_activations_are_not_covered_in_other_blocks_either() -> None:
    def convolutions(act: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), act, nn.Conv2d(4, 4, 1))

    class Squared(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            return h * h

    class Layer(nn.Module):
        def __init__(self, act: nn.Module) -> None:
            super().__init__()
            self.attention, self.map = nn.MultiheadAttention(4, 1), nn.Sequential(nn.Linear(4, 8), act, nn.Linear(8, 4))

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.attention(x, x, x)[0]
            return x + self.map(x)

    assert "a polynomial, of degree 2" in _lines(convolutions(Squared()))["U6"]
    assert "a polynomial, of degree 2" in _lines(Layer(Squared()))["U7"]
    assert _lines(Layer(Snake()))["U7"].startswith("universal: ")
    twice = nn.Sequential(nn.ReLU(), nn.Linear(8, 8), nn.Tanh())
    assert "2 activations between linear maps" in _lines(Layer(twice))["U7"]

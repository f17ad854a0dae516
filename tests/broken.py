"""Twelve networks that do not train, or look as if they would not, each for another reason."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from setup_a import WIDTH, chain, residual


class Sign(nn.Module):
    """A hard threshold, without a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sign(x)


class Tied(nn.Module):
    """A network that runs one layer again and again."""

    def __init__(self, times: int = 40) -> None:
        super().__init__()
        self.first, self.layer, self.head = nn.Linear(64, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 10)
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        for _ in range(self.times):
            x = torch.tanh(self.layer(x))
        return self.head(x)


class Attention(nn.Module):
    """Attention on eight tokens, added to them without scale or norm."""

    def __init__(self, blocks: int = 12, size: int = 32) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, size), nn.Linear(size, 10)
        self.attentions = nn.ModuleList(nn.MultiheadAttention(size, 4, batch_first=True) for _ in range(blocks))
        self.layers = nn.ModuleList(nn.Linear(size, size) for _ in range(blocks))
        for layer in self.layers:
            nn.init.normal_(layer.get_parameter("weight"), std=2 / math.sqrt(size))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.reshape(-1, 8, 8))
        for attention, layer in zip(self.attentions, self.layers, strict=True):
            x = x + attention(x, x, x, need_weights=False)[0]
            x = x + torch.relu(layer(x))
        return self.head(x.mean(1))


def dead_relu() -> nn.Module:
    model: Any = chain(nn.ReLU, 2.0, depth=6)
    nn.init.constant_(model[4].bias, -100.0)
    return model


def sign_after_relu() -> nn.Module:
    model: Any = chain(nn.ReLU, 2.0, depth=4)
    return nn.Sequential(*model[:4], Sign(), *model[4:])


def frozen() -> nn.Module:
    model: Any = chain(nn.Tanh, 1.0, depth=5)
    nn.init.zeros_(model[4].weight)
    model[4].requires_grad_(False)
    return model


def with_nan() -> nn.Module:
    model: Any = chain(nn.ReLU, 2.0, depth=5)
    model[4].weight.data[3, 7] = math.nan
    return model


def fixup(blocks: int = 20) -> nn.Module:
    model: Any = residual(1.0, blocks=blocks)
    for block in model[1:-1]:
        nn.init.zeros_(block.second.weight)
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    return model


def _constant_channel(x: Tensor) -> Tensor:
    return torch.cat([torch.full_like(x[:, :1], 300.0), x[:, 1:]], 1)


def _as_it_is(x: Tensor) -> Tensor:
    return x


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor], Tensor], str, str | None]] = {
    "wrong gain": (lambda: chain(nn.Tanh, 25 / 9, depth=60), _as_it_is, "exploding", "2"),
    "missing skip": (lambda: chain(nn.ReLU, 2.0, depth=60), _as_it_is, "collapsed", "116"),
    "dead ReLU": (dead_relu, _as_it_is, "dead", "4"),
    "sign after ReLU": (sign_after_relu, _as_it_is, "dead", "2"),
    "saturated sigmoid": (lambda: chain(nn.Sigmoid, 400.0, depth=4), _as_it_is, "saturated", None),
    "tied layer": (Tied, _as_it_is, "vanishing", "layer"),
    "frozen layer": (frozen, _as_it_is, "dead", "4"),
    "NaN weight": (with_nan, _as_it_is, "nonfinite", "4"),
    "one constant input channel": (
        lambda: chain(nn.ReLU, 2.0, depth=4),
        _constant_channel,
        "collapsed",
        "the input",
    ),
    "too deep batch norm": (
        lambda: chain(nn.ReLU, 2.0, norm=nn.BatchNorm1d, depth=50),
        _as_it_is,
        "exploding",
        "3",
    ),
    "zero initialization misread": (fixup, _as_it_is, "structural_zero", "1.first"),
    "exploding attention": (Attention, _as_it_is, "exploding", None),
}
"""By name: what makes the network, what is done to a batch (N, 64), the code of the verdict, and its layer if sure."""

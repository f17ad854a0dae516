"""The networks of setup A: a hundred layers of a hundred units, trained on images; each with what is wrong with it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

DEPTH, WIDTH = 100, 100


def chain(
    activation: type[nn.Module],
    variance: float,
    bias: float = 0.0,
    orthogonal: bool = False,
    norm: type[nn.Module] | None = None,
    inputs: int = 64,
    depth: int = DEPTH,
    width: int = WIDTH,
) -> nn.Sequential:
    """A plain network: weights of variance `variance` / fan_in, biases of variance `bias`."""
    parts: list[nn.Module] = []
    for fan_in, fan_out in zip([inputs] + [width] * (depth - 1), [width] * (depth - 1) + [10], strict=True):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.normal_(linear.weight, std=math.sqrt(variance / fan_in))
        if orthogonal and fan_in == fan_out:
            nn.init.orthogonal_(linear.weight, math.sqrt(variance))
        nn.init.normal_(linear.bias, std=math.sqrt(bias))
        parts += [linear, *([norm(fan_out)] if norm else []), activation()]
    return nn.Sequential(*parts[: -2 if norm else -1])


def default(activation: type[nn.Module], depth: int = DEPTH) -> nn.Sequential:
    """A plain network as torch initializes it."""
    parts = [part for _ in range(depth - 2) for part in (nn.Linear(WIDTH, WIDTH), activation())]
    return nn.Sequential(nn.Linear(64, WIDTH), activation(), *parts, nn.Linear(WIDTH, 10))


def lsuv(inputs: Tensor) -> nn.Sequential:
    """Orthogonal weights, scaled so that each layer's output has the deviation 1."""
    model = chain(nn.ReLU, 1.0, orthogonal=True)
    with torch.no_grad():
        for part in model:
            out = part(inputs)
            if isinstance(part, nn.Linear):
                part.weight /= out.std()
                out = out / out.std()
            inputs = out
    return model


class Branch(nn.Module):
    """A branch with its skip, x + scale F(x), the scale learned or not."""

    def __init__(self, scale: float, learned: bool = False, norm: bool = False, width: int = WIDTH) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.scale = nn.Parameter(torch.tensor(scale)) if learned else scale
        if not norm:
            for linear in (self.first, self.second):
                nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
                nn.init.zeros_(linear.bias)
            self.second.weight.data /= math.sqrt(2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.second(torch.relu(self.first(self.norm(x))))


def residual(scale: float, learned: bool = False, norm: bool = False, blocks: int = DEPTH) -> nn.Sequential:
    """A stem, branches and a head."""
    return nn.Sequential(
        nn.Linear(64, WIDTH), *(Branch(scale, learned, norm) for _ in range(blocks)), nn.Linear(WIDTH, 10)
    )


NETWORKS: dict[str, tuple[Callable[[Tensor], nn.Module], str]] = {
    "tanh orthogonal, critical q = 1/L": (lambda x: chain(nn.Tanh, 1.01990, 2.17e-4, orthogonal=True), "ok"),
    "tanh Gaussian, critical": (lambda x: chain(nn.Tanh, 1.01990, 2.17e-4), "ok"),
    "tanh Gaussian, Xavier": (lambda x: chain(nn.Tanh, 1.0), "ok"),
    "tanh, ordered": (lambda x: chain(nn.Tanh, 0.8, 0.05), "vanishing"),
    "tanh orthogonal, ordered": (lambda x: chain(nn.Tanh, 0.8, 0.05, orthogonal=True), "vanishing"),
    "tanh, chaotic": (lambda x: chain(nn.Tanh, 2.25), "exploding"),
    "tanh, gain 5/3": (lambda x: chain(nn.Tanh, 25 / 9), "exploding"),
    "tanh, default": (lambda x: default(nn.Tanh), "vanishing"),
    "ReLU, He": (lambda x: chain(nn.ReLU, 2.0), "collapsed"),
    "ReLU, orthogonal": (lambda x: chain(nn.ReLU, 2.0, orthogonal=True), "collapsed"),
    "ReLU, LSUV": (lsuv, "collapsed"),
    "ReLU, Xavier": (lambda x: chain(nn.ReLU, 1.0), "vanishing"),
    "ReLU, default": (lambda x: default(nn.ReLU), "vanishing"),
    "ReLU, He, batch norm": (lambda x: chain(nn.ReLU, 2.0, norm=nn.BatchNorm1d), "exploding"),
    "ReLU, He, layer norm": (lambda x: chain(nn.ReLU, 2.0, norm=nn.LayerNorm), "collapsed"),
    "residual, unscaled": (lambda x: residual(1.0), "exploding"),
    "residual, 1/sqrt(L)": (lambda x: residual(DEPTH**-0.5), "ok"),
    "ReZero": (lambda x: residual(0.0, learned=True), "structural_zero"),
    "residual, default, layer norm first": (lambda x: residual(1.0, norm=True), "ok"),
}
"""By name: what makes the network, given a batch, and the code of the verdict on it."""

"""The figure of the proof as code: a curve, a shallow network fitted to it, and the deep narrow network equal to it."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

import minimand as mm

NEURONS = 40


def fitted() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A shallow network fitted to a curve by least squares in its output weights, with the curve."""
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 400, dtype=torch.double)[:, None]
    y = torch.sin(7 * x) * torch.exp(-(x**2)) + 0.3 * torch.sign(x) * x.abs().sqrt()
    first, last = nn.Linear(1, NEURONS).double(), nn.Linear(NEURONS, 1).double()
    with torch.no_grad():
        first.weight.copy_(torch.where(torch.arange(NEURONS) % 2 == 0, 1.0, -1.0)[:, None])
        first.bias.copy_(-first.weight[:, 0] * torch.linspace(-1, 1, NEURONS, dtype=torch.double))
        hidden = torch.cat([torch.relu(first(x)), torch.ones_like(x)], dim=1)
        weights = torch.linalg.lstsq(hidden, y, driver="gelsd").solution[:, 0]
        last.weight.copy_(weights[None, :-1])
        last.bias.copy_(weights[-1:])
    return nn.Sequential(first, nn.ReLU(), last), x, y


def main() -> None:
    from matplotlib.figure import Figure

    shallow, x, y = fitted()
    deep = mm.theory.construct(shallow, mm.algorithms.HeavyBall(momentum=0.5))
    with torch.no_grad():
        narrow, wide = deep(x), shallow(x)
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(x, y, color="#8c959f", linewidth=5, alpha=0.5, label="the curve")
    axes.plot(x, wide, color="#1f6feb", linewidth=2, label=f"one hidden layer of {NEURONS} neurons")
    axes.plot(
        x, narrow, "--", color="#cf222e", linewidth=2, label=f"heavy ball, {NEURONS} layers of one neuron, width 2"
    )
    axes.legend(frameon=False, fontsize=9)
    axes.set_title(f"largest difference of the two networks: {float((narrow - wide).abs().max()):.0e}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="x", xticks=np.linspace(-1, 1, 5))
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()

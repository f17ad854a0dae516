"""Sparse recovery: problems with their samples, and networks whose layers are steps on their objective."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...algorithms import Algorithm
from ...blocks import Prox
from ...data import Arrays, Data
from ...networks import unroll
from ...training import Method
from ...training.loop.losses import Loss
from ...training.methods.method import descend

PROXES = ("prox_f", "prox_g")


@dataclass(frozen=True)
class Problem:
    """Signals y = D u of sparse codes u, observed as b = A u + noise: samples (b, y) to train and to test with."""

    matrix: Tensor
    """The matrix A, (m, n), that makes observations of codes; its columns have length 1."""
    dictionary: Tensor
    """The matrix D, (d, n), that makes signals of codes."""
    train: Arrays
    test: Arrays

    def data(self) -> Data:
        """The samples as a regression of the signal on the observation."""
        rows, signals = len(self.matrix), len(self.dictionary)
        return Data("sparse recovery", self.train, self.test, (rows,), "regression", outputs=signals)


def gaussian(rows: int, columns: int, counts: Sequence[int], snr: float | None, generator: torch.Generator) -> Problem:
    """A Gaussian matrix and Gaussian codes, each entry of which is 0 with probability 0.9; noise of so many dB."""
    matrix = torch.randn(rows, columns, generator=generator)
    matrix = matrix / matrix.norm(dim=0)
    parts = []
    for count in counts:
        support = torch.rand(count, columns, generator=generator) < 0.1
        codes = torch.randn(count, columns, generator=generator) * support
        observed = codes @ matrix.T
        if snr is not None:
            size = observed.square().mean(1, keepdim=True).sqrt() * 10 ** (-snr / 20)
            observed = observed + size * torch.randn(observed.shape, generator=generator)
        parts.append(Arrays(observed, codes))
    return Problem(matrix, torch.eye(columns), *parts)


def of_patches(data: Data, counts: Sequence[int], generator: torch.Generator, size: int = 8) -> Problem:
    """Grey patches without their mean, sparse in an overcomplete cosine basis, seen through half as many numbers."""
    grid = torch.arange(size) + 0.5
    cosines = torch.cos(math.pi * grid[:, None] * torch.arange(3 * size // 2) / (3 * size // 2))
    cosines[:, 1:] -= cosines[:, 1:].mean(0)
    dictionary = torch.kron(cosines, cosines)[:, 1:]  # patches have no constant part
    dictionary = dictionary / dictionary.norm(dim=0)
    sensing = torch.randn(size**2 // 2, size**2, generator=generator)
    matrix = sensing @ dictionary
    lengths = matrix.norm(dim=0)
    parts = []
    for samples, count in zip((data.train, data.test), counts, strict=True):
        images = cast(Arrays, samples).inputs.float().mean(1, keepdim=True)
        patches = nn.functional.unfold(images, size, stride=size).transpose(1, 2).flatten(0, 1)
        patches = patches - patches.mean(1, keepdim=True)
        patches = patches[patches.std(1) > 0.02 * images.max()]
        patches = patches[torch.randperm(len(patches), generator=generator)[:count]]
        patches = patches / patches.square().mean().sqrt()
        parts.append(Arrays(patches @ sensing.T, patches))
    return Problem(matrix / lengths, dictionary / lengths, *parts)


def analytic_weights(matrix: Tensor) -> Tensor:
    """W, (m, n), with w_j . a_j = 1 and the least |W^T A| (Liu & Chen 2019; in closed form in the Frobenius norm)."""
    weights = torch.linalg.solve(matrix @ matrix.T, matrix)
    return weights / (weights * matrix).sum(0)


def curvatures(weights: Tensor, matrix: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """The largest eigenvalue L of W^T A, and mu: the median of the least one on random supports of a tenth."""
    product = weights.T @ matrix
    columns = len(product)
    least = []
    for _ in range(20):
        support = torch.randperm(columns, generator=generator)[: max(1, columns // 10)]
        least.append(torch.linalg.eigvals(product[support][:, support]).real.min())
    return float(torch.linalg.eigvals(product).real.max()), max(float(torch.stack(least).median()), 1e-3)


class Towards(Prox):
    """(u, b) to (u + s W^T (b - A u), b): towards codes that explain the observation; for W = A a gradient step.

    For W = (A A^T + 1/t)^-1 A and s = 1 it is the prox of |A u - b|^2 / 2 with step size t.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor, weights: nn.Parameter, step_size: float) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix, persistent=False)
        self.weights = weights
        self.step_size = nn.Parameter(torch.tensor(step_size))

    def forward(self, point: Tensor, step_size: float | Tensor = 1.0) -> Tensor:
        """The point moved; the step size that an algorithm asks for is one with the learned one."""
        code, observed = point.split([self.matrix.shape[1], self.matrix.shape[0]], dim=1)
        moved = code + self.step_size * ((observed - code @ self.matrix.T) @ self.weights)
        return torch.cat([moved, observed], dim=1)


class Shrink(Prox):
    """(u, b) to (sign(u) max(|u| - t, 0), b), the prox of t |u|_1, with a learned threshold t, in logarithms."""

    def __init__(self, size: int, threshold: float) -> None:
        super().__init__()
        self.size = size
        self.log_threshold = nn.Parameter(torch.tensor(math.log(threshold)))

    def forward(self, point: Tensor, step_size: float | Tensor = 1.0) -> Tensor:
        """The point shrunk; the step size that an algorithm asks for is one with the learned threshold."""
        code, threshold = point[:, : self.size], self.log_threshold.exp()
        return torch.cat([code - code.clamp(-threshold, threshold), point[:, self.size :]], dim=1)


class Recovery(nn.Module):
    """A network from observations (N, m) to signals (N, d): an algorithm, whose layers are pairs of a step and a prox.

    Where the algorithm asks two proxes, they answer one each. Where it asks a gradient, T is one after the other, a
    step of ISTA, and gradient(z) = z - T(z): gradient descent is ISTA then, and FISTA is FISTA.
    """

    dictionary: Tensor

    def __init__(self, problem: Problem, algorithm: Algorithm, layers: Sequence[tuple[Towards, Shrink]]) -> None:
        super().__init__()
        self.register_buffer("dictionary", problem.dictionary, persistent=False)
        proximal = algorithm.oracles == PROXES
        self.stage = unroll(
            algorithm,
            [dict(zip(PROXES, pair, strict=True)) if proximal else nn.Sequential(*pair) for pair in layers],
            "operator",
        )

    def forward(self, observed: Tensor, every_layer: bool = False) -> Any:
        """The signals, or those that every layer reads out, in a list."""
        codes = observed.new_zeros(len(observed), self.dictionary.shape[1])
        state = self.stage.start(torch.cat([codes, observed], dim=1))
        signals = []
        for layer in self.stage.layers:
            state = layer(state)
            signals.append(self.stage.read(state)[:, : codes.shape[1]] @ self.dictionary.T)
        return signals if every_layer else signals[-1]


def relative_errors(signals: Sequence[Tensor], targets: Tensor) -> Tensor:
    """|estimate - y|^2 / |y|^2 over all samples, for the estimates of each layer: NMSE."""
    return torch.stack([(signal - targets).square().sum() for signal in signals]) / targets.square().sum()


@dataclass(frozen=True)
class EveryLayer(Method):
    """Backpropagation of the mean logarithm of the relative errors of what each layer reads out."""

    def backward(self, model: nn.Module, x: Any, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        signals = model(x, True)
        return descend(relative_errors(signals, y).log().mean(), signals[-1])

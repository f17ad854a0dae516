"""Short fingerprints of algorithms: what a run's configuration cannot spell out of code."""

import hashlib
from collections.abc import Callable
from typing import Any

from torch import nn

from ..algorithms import Algorithm
from ..theory.kernel import kernel
from ..theory.symbols import Combination
from .skeletons import skeletons

_LAYERS = 16


def algorithm_fingerprint(algorithm: Algorithm, depth: int) -> str:
    """The fingerprint of what an algorithm computes in its first layers, and of all its coefficients."""
    learnable = algorithm.learnable()
    # At their initial values two different uses of a coefficient may look the same.
    generic = {name: _between(c.low, c.high) for name, c in learnable.items()}
    first_layers = kernel(algorithm.rebind(**generic), min(depth, _LAYERS))
    parts = [f"{query.answer} at {_text(query.point)}" for query in first_layers.queries]
    values = {name: [f"{float(c(k)):.9g}" for k in range(depth)] for name, c in algorithm.coefficients().items()}
    return digest([*parts, _text(first_layers.output), values, {n: (c.low, c.high) for n, c in learnable.items()}])


def model_fingerprint(model: nn.Module) -> str | None:
    """The fingerprint of the algorithms that a model runs; None if there are none."""
    runs = skeletons(model)
    if not runs:
        return None
    # Stages share an algorithm, and its kernel takes a while.
    prints = {(id(run.algorithm), run.depth): algorithm_fingerprint(run.algorithm, run.depth) for run in runs}
    wiring = [run.names if run.is_wired else run.binding for run in runs]
    return digest([(prints[id(run.algorithm), run.depth], run.depth, w) for run, w in zip(runs, wiring, strict=True)])


def digest(parts: list[Any]) -> str:
    """A dozen letters that stand for plain values."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _between(low: float, high: float) -> Callable[[int], float]:
    return lambda k: low + (high - low) * ((37 * k + 11) % 101) / 101


def _text(combination: Combination) -> str:
    return " ".join(sorted(f"{float(c):.9g} {atom}" for atom, c in combination.terms.items()))

"""Short fingerprints of algorithms: what a run's configuration cannot spell out of code."""

import hashlib
from typing import Any

from torch import nn

from ..algorithms import Algorithm, Read, Table, each_entry, filled
from ..theory.kernel import kernel
from ..theory.symbols import Combination
from .skeletons import skeletons

_LAYERS = 16


def algorithm_fingerprint(algorithm: Algorithm, depth: int) -> str:
    """The fingerprint of what an algorithm computes in its first layers, and of all its coefficients."""
    free = {**algorithm.learnable(), **algorithm.drawn()}
    # At their initial values two different uses of a coefficient may look the same.
    generic = {name: _between(algorithm, name, c.low, c.high) for name, c in free.items()}
    first_layers = kernel(algorithm.rebind(**generic), min(depth, _LAYERS))
    parts = [f"{query.answer} at {_text(query.point)}" for query in first_layers.queries]
    values = {
        name: [str(each_entry(lambda v: f"{float(v):.9g}", c(k))) for k in range(depth)]
        for name, c in algorithm.coefficients().items()
    }
    bounds = {name: (c.low, c.high) for name, c in free.items()}
    own = {name: c.channels for name, c in algorithm.learnable().items() if c.channels is not None}
    return digest([*parts, _text(first_layers.output), values, bounds, *([own] if own else [])])


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


def _between(algorithm: Algorithm, name: str, low: float, high: float) -> Read:
    def value(k: int) -> Table:
        return filled(
            algorithm.shape(name, k), lambda i: low + (high - low) * ((37 * k + 11 + 29 * sum(i)) % 101) / 101
        )

    return Read(value)


def _text(combination: Combination) -> str:
    return " ".join(sorted(f"{float(c):.9g} {atom}" for atom, c in combination.terms.items()))

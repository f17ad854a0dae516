"""Short fingerprints of what a configuration cannot spell out: code and tensors that decide a run's result."""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...algorithms import Algorithm
from ...data import Arrays, Data
from ...networks.skeletons import skeletons
from ...theory.kernel import kernel
from ...theory.symbols import Combination
from ..loop.losses import Loss

_LAYERS = 16
_ROWS = 64


def of_algorithm(algorithm: Algorithm, depth: int) -> str:
    """The fingerprint of what an algorithm computes in its first layers, and of all its coefficients."""
    learnable = algorithm.learnable()
    # At their initial values two different uses of a coefficient may look the same.
    generic = {name: _between(c.low, c.high) for name, c in learnable.items()}
    first_layers = kernel(algorithm.rebind(**generic), min(depth, _LAYERS))
    parts = [f"{query.answer} at {_text(query.point)}" for query in first_layers.queries]
    values = {name: [f"{float(c(k)):.9g}" for k in range(depth)] for name, c in algorithm.coefficients().items()}
    return _digest([*parts, _text(first_layers.output), values, {n: (c.low, c.high) for n, c in learnable.items()}])


def of_model(model: nn.Module) -> str | None:
    """The fingerprint of the algorithms that a model runs; None if there are none."""
    runs = skeletons(model)
    if not runs:
        return None
    # Stages share an algorithm, and its kernel takes a while.
    prints = {(id(run.algorithm), run.depth): of_algorithm(run.algorithm, run.depth) for run in runs}
    wiring = [run.names if run.is_wired else run.binding for run in runs]
    return _digest([(prints[id(run.algorithm), run.depth], run.depth, w) for run, w in zip(runs, wiring, strict=True)])


def of_data(data: Data) -> str | None:
    """The fingerprint of some training and test samples; None where they are not in memory."""
    if not (isinstance(data.train, Arrays) and isinstance(data.test, Arrays)):
        return None
    return _digest([_rows(data.train), _rows(data.test), data.mean, data.std, data.augmentation])


def of_loss(loss: Loss, data: Data, device: torch.device) -> str | None:
    """The fingerprint of a loss by its value on made-up outputs; None if it cannot be called on them."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(32, data.num_outputs, generator=generator).to(device)
    targets = torch.randn(32, data.num_outputs, generator=generator)
    if data.task == "classification":
        targets = torch.arange(32) % data.num_outputs
    try:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            return f"{float(loss(outputs, targets.to(device))):.4g}"
    except Exception:  # somebody else's function may need what training gives it
        return None


def _between(low: float, high: float) -> Callable[[int], float]:
    return lambda k: low + (high - low) * ((37 * k + 11) % 101) / 101


def _text(combination: Combination) -> str:
    return " ".join(sorted(f"{float(c):.9g} {atom}" for atom, c in combination.terms.items()))


def _rows(samples: Arrays) -> str:
    chosen = torch.linspace(0, len(samples) - 1, _ROWS, dtype=torch.double).long().unique()
    parts = [t[chosen.to(t.device)].double().cpu().numpy().tobytes() for t in (samples.inputs, samples.targets)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

"""The budget of the arms of a comparison: equal steps, equal time or equal floating-point operations."""

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, Literal, get_args

import torch
from torch import nn

from ..._support.errors import MinimandError, unknown_name
from ..._support.torch.flops import FlopCounter
from ...data import Arrays, Data
from ...data.samples import NoSamples
from ...recipes import Recipe
from ...training import Method, fit

Budget = Literal["steps", "time", "flops"]
"""What the trainings of all arms have in common."""
_FEW, _MANY, _MOST, _ROUNDS = 2, 6, 400, 3
"""Time is that of many steps less that of a few, each the least of three: what disturbs a measurement makes it longer.
Many are six, or four times as many until they take half as long again as the few, since a training takes time of its
own, in which a short step would be lost."""


def as_budget(budget: Any) -> Budget:
    """A budget as it is; raises MinimandError for anything else."""
    if budget not in get_args(Budget):
        raise unknown_name("budget", str(budget), get_args(Budget))
    return budget


def costs(
    budget: Budget, models: Mapping[str, nn.Module], data: Data, recipe: Recipe, device: torch.device
) -> dict[str, float]:
    """The cost of an epoch of each arm by its label: FLOPs, or seconds of one thread; nothing for equal steps."""
    if budget == "flops":
        once = replace(recipe, epochs=1)
        return {label: float(training_flops(model, data, once)) for label, model in models.items()}
    if budget == "steps":
        return {}
    steps = -(-len(data.train) // recipe.batch_size)
    seconds = {label: _step_seconds(model, data, recipe, device) for label, model in models.items()}
    return {label: float(f"{steps * value:.4g}") for label, value in seconds.items()}


def epochs_for(costs: Mapping[str, float], epochs: int) -> dict[str, int]:
    """The epochs with which each arm spends what the first one spends in `epochs`, rounded to whole ones."""
    first = next(iter(costs.values()))
    return {label: max(1, round(epochs * first / cost)) for label, cost in costs.items()}


def training_flops(model: nn.Module, data: Data, recipe: Recipe, method: Method | None = None) -> int:
    """Floating-point operations of a training, forward and backward, without evaluations and a validation part.

    Those of one epoch over one batch are counted, by a copy of the model, and multiplied by samples and epochs.
    """
    one = _first_steps(data, recipe, 1)
    recipe, epochs = replace(recipe, batch_size=len(one.train)), recipe.epochs
    with FlopCounter() as counter:
        _fit_copy(model, one, recipe, torch.device("cpu"), method)
    share = recipe.validation if data.validation is None else 0.0
    samples = len(data.train) - round(share * len(data.train))
    return round(counter.get_total_flops() / len(one.train) * samples * epochs)


def _step_seconds(model: nn.Module, data: Data, recipe: Recipe, device: torch.device) -> float:
    """The seconds of a training step in one thread, on an idle or a busy machine alike."""
    recipe = replace(recipe, batch_size=min(recipe.batch_size, len(data.train)))
    clock = time.process_time if device.type == "cpu" else time.perf_counter

    def least(steps: int) -> float:
        first, seconds = _first_steps(data, recipe, steps), list[float]()
        for _ in range(_ROUNDS):
            began = clock()
            _fit_copy(model, first, recipe, device)
            seconds.append(clock() - began)
        return min(seconds)

    with _one_thread():
        few, steps = least(_FEW), _MANY
        while (many := least(steps)) < 1.5 * few and 4 * steps <= _MOST:
            steps *= 4
    return max(many - few, 1e-9) / (steps - _FEW)


def _first_steps(data: Data, recipe: Recipe, steps: int) -> Data:
    """The data with the samples of so many steps to train on, the first ones again if there are too few; no others."""
    batches = list(islice(data.train.batches(recipe.batch_size), steps))
    if not all(isinstance(inputs, torch.Tensor) for inputs, _ in batches):
        raise MinimandError(
            f"the samples of {data.name} have several inputs; expected one tensor to count or time steps by."
        )
    inputs, targets = (torch.cat([batch[i] for batch in batches]) for i in range(2))
    wanted = min(recipe.batch_size, len(data.train)) * steps
    index = torch.arange(wanted) % len(targets)
    return replace(data, train=Arrays(inputs[index], targets[index]), test=NoSamples(), validation=None)


def _fit_copy(model: nn.Module, data: Data, recipe: Recipe, device: torch.device, method: Method | None = None) -> None:
    still = replace(recipe.optimizer, lr=1e-12)  # the same samples again and again would make it diverge
    recipe = replace(recipe, epochs=1, accumulate=1, compile=False, validation=0.0, early_stopping=0, optimizer=still)
    fit(copy.deepcopy(model), data, method=copy.deepcopy(method), recipe=recipe, device=device, progress=False)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

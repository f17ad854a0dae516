"""Training a model by a method: what everything begins with."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._support.environment import as_device
from .._support.errors import MinimandError
from ..data.conversion import as_data
from ..recipes.recipe import Recipe, default_recipe
from ..report.page import write_report
from .arguments import check_arguments, check_seed
from .distributed.processes import leads
from .distributed.ranks import Parallel, joined
from .hooks.watch import Watch
from .loop.events import Callback
from .loop.loop import Session
from .loop.losses import Loss
from .loop.result import FitResult
from .methods.backpropagation import Backpropagation
from .methods.method import Method
from .runs.run import Run


def fit(
    model: nn.Module,
    data: Any,
    method: Method | None = None,
    recipe: Recipe | None = None,
    loss: str | Loss | None = None,
    run: str | Path | Run | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    callbacks: Iterable[Callback] = (),
    checkpoint_every: float = 60.0,
    diagnose: bool = False,
    parallel: Parallel | None = None,
) -> FitResult:
    """Train a model, in place.

    Args:
        model: any module from a batch to outputs (N, classes), or (N, d) for a regression.
        data: a name, an `mm.Data`, or a pair (train, test) of tensors, data sets or loaders.
        method: what decides the updates; `mm.Backpropagation()` by default.
        recipe: optimizer, schedule, epochs ...; by default a short one that suits the data.
        loss: "cross_entropy", "mse", or a function of (outputs, targets); by default what suits the task: integer
            targets are classes, floating-point ones a regression.
        run: the folder of the run. Given again with the same settings, the run goes on where it was, to the same
            bits as if it had not been interrupted. None keeps nothing on disk.
        seed: decides the order of the samples and every random choice in training; not the model's weights, which
            are as given.
        device: by default where the model is.
        callbacks: functions that are told each event (`minimand.training.loop.events`).
        checkpoint_every: seconds between checkpoints.
        diagnose: look at signals and gradients before the first step (`mm.diagnose`) and, while the loss does not fall,
            a few times early on, and stop a run that cannot learn.
        parallel: under `torchrun`, how its processes share each batch: "ddp", the default there, has the whole model in
            each; "fsdp" spreads what is being trained over them. One of them, the first, writes and tells callbacks.

    Raises:
        DoomedRunError: `diagnose` found why the loss does not fall; says what repairs it.
        LostProcessError: another one of several processes ended.
        NonFiniteLossError: the loss, a gradient or a weight became NaN or infinite; names where it began.
        RunError: `run` holds something else, or another process trains in it. CheckpointError: its checkpoint is of
        another model. TypeError, ValueError: an argument that cannot be used, or data that the model does not fit.
    """
    method = Backpropagation() if method is None else method
    check_arguments(model, method, recipe, loss, callbacks, checkpoint_every)
    check_seed(seed)
    if diagnose and not isinstance(method, Backpropagation):
        raise MinimandError(
            f"diagnose watches backpropagation, and method is {type(method).__name__}; expected one of them."
        )
    data = as_data(data)
    ranks = joined(parallel, method, diagnose)
    model.to(ranks.own_device(next(model.parameters()).device if device is None else as_device(device)))
    recipe = recipe or default_recipe(data, model, next(model.parameters()).device)
    folder = Run(run) if isinstance(run, str | Path) else run
    with ranks.together(), ExitStack() as claim:
        if folder is not None:
            ranks.first(lambda: claim.enter_context(folder.claimed()))
        session = Session(model, data, method, recipe, loss, folder, seed, tuple(callbacks), checkpoint_every, ranks)
        session.watch = Watch(model, session.tell) if diagnose else None
        result = session.train()
    if result.run is not None and leads():
        write_report(result)
    return result

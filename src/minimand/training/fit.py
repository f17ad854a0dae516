"""Training a model by a method: what everything begins with."""

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._support.checks import check_flag
from .._support.errors import MinimandError, WrongTypeError
from .._support.torch.environment import as_device
from .._support.torch.internals import uncompiled
from .._support.torch.seeds import random_state_kept
from ..data.conversion import as_data
from ..data.data import Data
from ..data.samples import generators_kept
from ..recipes.recipe import Recipe, as_precision, default_recipe, from_config
from ..recipes.registry import as_recipe
from ..report.page import write_report
from .distributed.processes import check_same, code_and_versions, world_size
from .distributed.world import Parallel, World, join_world
from .hooks.watching.progress import with_progress
from .loop.evaluate import Metrics, as_metrics
from .loop.events import Callback, Event, StepDone
from .loop.loop import Loop
from .loop.losses import Loss
from .loop.profile import Profile, clock_of
from .loop.result import FitResult
from .loop.training import Training
from .methods._registry import as_method
from .methods.backpropagation import Backpropagation
from .methods.method import Method
from .runs.keeper import configuration
from .runs.run import Run


def fit(
    model: nn.Module,
    data: Any,
    *,
    method: Method | str | None = None,
    recipe: Recipe | str | None = None,
    loss: str | Loss | None = None,
    run: str | Path | Run | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    callbacks: Iterable[Callback] = (),
    checkpoint_every: float = 60.0,
    diagnose: bool = False,
    parallel: Parallel | None = None,
    progress: bool = True,
    metrics: Metrics | None = None,
    profile: bool = False,
) -> FitResult:
    """Train a model, in place, and the parameters of a loss; random states and frozen layers stay as they are.

    Args:
        model: any module from a batch to outputs (N, classes ...), or (N, d) for a regression, or their `logits`.
        data: a name, an `mm.Data`, or (train, test) of tensors, data sets or loaders; several inputs are arguments.
        method: what decides the updates: a name as in "layerwise(hidden_layers=2)", or an object; `mm.list_methods()`.
        recipe: an object or a name, as in "airbench(epochs=5)"; by default a short one that suits the data.
        loss: "cross_entropy", "mse", or a function of (outputs, targets); by default the model's own or the task's.
        run: the folder of the run, in which report.html tells of it at the end. Given again with the same settings, the
            run goes on where it was, to the same bits as if it had not been interrupted. None keeps nothing on disk.
        seed: decides the order of the samples and every random choice in training; the first weights are as given.
        device: by default where the model is.
        callbacks: functions that are told each event (`minimand.training.loop.events`).
        checkpoint_every: seconds between checkpoints.
        diagnose: `mm.diagnose` the model before the first step and early on, and stop a run that cannot learn.
        parallel: under `torchrun`, how its processes share each batch: "ddp", the default there, has the whole model in
            each; "fsdp" shards what is being trained over them. The main process writes and tells callbacks.
        progress: show a bar on a terminal or in a notebook, and a line for each epoch, on standard error.
        metrics: functions of (outputs, targets) to a number, by name: of all test samples together, after each epoch.
        profile: measure where the time goes, as the result's `profile` and the report say: data, forward, backward ...

    Raises:
        DoomedRunError: `diagnose` found why the loss does not fall; says what repairs it.
        LostProcessError: another one of several processes ended.
        NonFiniteLossError: the loss, a gradient or a weight became NaN or infinite; names where it began.
        RunError: `run` holds something else, or another process trains in it. CheckpointError: its checkpoint is of
        another model. MinimandError: an argument that cannot be used, or data that the model does not fit.
    """
    _check_arguments(model, loss, callbacks, checkpoint_every, seed)
    chosen, metrics = as_recipe(recipe), as_metrics(metrics)
    check_flag("profile", profile)
    method, callbacks = _checked_method(method, diagnose), with_progress(callbacks, progress)
    device = next(model.parameters()).device if device is None else as_device(device)
    with random_state_kept(device), ExitStack() as stack:
        data = _checked_data(data, model, method, stack)
        world = _joined_world(model, method, parallel, diagnose, device)
        check_same(lambda: _settings(model, data, method, chosen, loss, seed, parallel, run))
        stack.enter_context(world.failures())
        run = _claimed(run, world, stack)
        settled = world.on_main(lambda: _settled(chosen, data, model, run))
        training = Training(model, data, method, settled, loss, run, seed, callbacks, world, diagnose, metrics)
        return _done(Loop(training, checkpoint_every), profile)


def _done(loop: Loop, profile: bool) -> FitResult:
    """The result of a loop, with its profile if asked, of which the report tells."""
    result = _profiled(loop) if profile else loop.run()
    if result.run is not None and loop.training.world.is_main:
        write_report(result)
    return result


def _profiled(loop: Loop) -> FitResult:
    """The result of a loop with its profile."""
    training, clock = loop.training, clock_of(loop.training.device)
    steps: list[int] = []

    def count(event: Event) -> None:
        if isinstance(event, StepDone):
            steps.append(event.step)

    training.callbacks = (*training.callbacks, count)
    with clock.running():
        result = loop.run()
    note = ""
    if steps and "backward" not in clock.seconds:
        note = f"{type(training.method).__name__} does not use `descend`: its backward passes are counted as forward."
    return replace(result, profile=Profile(clock.seconds, len(steps), note))


def _checked_method(method: Method | str | None, diagnose: bool) -> Method:
    method = Backpropagation() if method is None else as_method(method)
    if diagnose and not isinstance(method, Backpropagation):
        name = type(method).__name__
        raise MinimandError(f"diagnose watches backpropagation, and method is {name}; expected one of them.")
    return method


def _joined_world(
    model: nn.Module, method: Method, parallel: Parallel | None, diagnose: bool, device: torch.device
) -> World:
    """The processes that train together; the model moves to the device of this one."""
    method.check(world_size())
    world = join_world(parallel, method.distributed, type(method).__name__, diagnose)
    model.to(world.local_device(device))
    return world


def _claimed(run: str | Path | Run | None, world: World, stack: ExitStack) -> Run | None:
    """The run of a folder, which no other process trains in until the stack is closed."""
    run = Run(run) if isinstance(run, str | Path) else run
    if run is not None:
        world.on_main(lambda: stack.enter_context(run.claimed()))
    return run


def _settings(
    model: nn.Module,
    data: Data,
    method: Method,
    recipe: Recipe | None,
    loss: str | Loss | None,
    seed: int,
    parallel: Parallel | None,
    run: Any,
) -> dict[str, Any]:
    """What has to be the same in all processes that train together."""
    settings = configuration(uncompiled(model), data, method, recipe, loss, seed, next(model.parameters()).device)
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    others = {"parallel": parallel, "run": None if run is None else "a folder", "shape": shapes}
    return settings | others | code_and_versions()


def _settled(recipe: Recipe | None, data: Data, model: nn.Module, run: Run | None) -> Recipe:
    """The recipe, by default a short one: with the precision that "auto" becomes, and compiled if the model is.

    A run that goes on keeps the precision that it began with, on other hardware too.
    """
    recipe = recipe or default_recipe(data, uncompiled(model))
    precision, device = recipe.precision, next(model.parameters()).device
    if precision == "auto" and run is not None and not run.is_new:
        with suppress(MinimandError, KeyError, TypeError, ValueError):  # whether this is a run is judged elsewhere
            precision = from_config(run.config()["recipe"]).precision
    is_compiled = recipe.compile or uncompiled(model) is not model
    return replace(recipe, precision=as_precision(precision, data, model, device), compile=is_compiled)


def _check_arguments(model: Any, loss: Any, callbacks: Any, checkpoint_every: Any, seed: Any) -> None:
    if not isinstance(model, nn.Module):
        remedy = f"mm.create_model({model!r}, ...)" if isinstance(model, str) else "such as mm.create_model(...)"
        raise WrongTypeError(f"model is {_shown(model)}; expected a module, {remedy}.")
    if not any(p.requires_grad for p in model.parameters()):
        raise MinimandError(f"model {type(model).__name__} has no parameters to train; expected at least one.")
    if isinstance(loss, type):
        raise WrongTypeError(f"loss is the class {loss.__name__}; expected one of it: {loss.__name__}().")
    if loss is not None and not isinstance(loss, str) and not callable(loss):
        raise WrongTypeError(
            f"loss is {_shown(loss)}; expected 'cross_entropy', 'mse' or a function of (outputs, targets)."
        )
    if not isinstance(callbacks, Iterable) or isinstance(callbacks, str):
        raise WrongTypeError(f"callbacks is {_shown(callbacks)}; expected a list of functions of an event.")
    if not isinstance(checkpoint_every, int | float) or not checkpoint_every >= 0:
        raise MinimandError(f"checkpoint_every is {checkpoint_every!r}; expected seconds, 0 or more.")
    check_seed(seed)


def _checked_data(data: Any, model: nn.Module, method: Method, stack: ExitStack) -> Data:
    """The data as the model needs them, whose generators are put back when the stack is closed.

    A method that takes the model apart takes no inputs in several tensors.
    """
    data = as_data(data).for_model(model)
    stack.enter_context(generators_kept(data.train, data.validation, data.test))
    if isinstance(method, Backpropagation):
        return data
    if not isinstance(example := data.example(), torch.Tensor):
        raise MinimandError(
            f"{type(method).__name__} takes one tensor as a model's input, and {data.name} has a "
            f"{type(example).__name__} of them; expected method='backpropagation'."
        )
    return data


def check_seed(seed: Any) -> None:
    """Raise MinimandError for a seed that not every random generator takes."""
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise MinimandError(f"seed is {seed!r}; expected an integer from 0 to 2^63 - 1.")


def _shown(value: Any) -> str:
    if isinstance(value, str | int | float | type):
        return repr(value)
    return "a function" if callable(value) and hasattr(value, "__qualname__") else type(value).__name__

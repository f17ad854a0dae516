"""A search for better coefficients, in the certified region only."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..._support.errors import MinimandError
from ..._support.extras import require
from ..._support.files import check_holds, write_whole
from ..._support.torch.environment import as_device
from ...algorithms import ALGORITHMS, Algorithm, as_algorithm
from ...data import Data, as_data, hold_out
from ...models import model_for
from ...recipes import Recipe, as_recipe, default_recipe
from ...report import bibtex, certify_model
from ...theory import Binding, Certificate, distance, equivalent, identify
from ...training import Backpropagation, Run
from ...training.distributed.processes import is_launched
from ...training.fit import check_seed
from ...training.runs.keeper import configuration
from ..comparing.compare import compare
from ..study import CallbacksByLabel
from ..tasks.queue import Engine, Queue, as_queue, no_callbacks
from .multistep import KNOWN
from .search_result import FILE, SearchResult
from .trials import DATABASE, Trial, TrialTask, best_first, make_trials, opened_study, tally

_HELD_OUT = 0.2


def search(
    data: Any = "digits",
    *,
    model: str = "resnet20",
    steps: int = 2,
    trials: int = 50,
    recipe: Recipe | str | None = None,
    binding: Binding | None = None,
    seed: int = 1000,
    seeds: int = 3,
    run: str | Path = "runs/search",
    storage: str | None = None,
    callbacks: CallbacksByLabel = no_callbacks,
    tell: Callable[[str], None] = lambda line: None,
    device: str | torch.device | None = None,
    progress: bool = True,
    jobs: int | None = None,
    engine: Engine | None = None,
) -> SearchResult:
    """Look for the linear multistep method whose network learns best on some data (extra `search`).

    Optuna (Akiba et al. 2019) suggests methods with the same coefficients in every layer, the known ones first. Those
    that are consistent and zero-stable, with every gain nonzero in the longest stage, are trained and judged on a fifth
    of the training samples, held out. The best and the known ones are then trained afresh on all of them with other
    seeds and judged on the test samples. The same call on the same run goes on where it was.

    Args:
        data: as for `mm.fit`, but for loaders, of which no part can be held out.
        model: a model's name, with settings if need be.
        steps: the number of last states and answers that a step reads, at least 1.
        trials: the number of algorithms that are looked at in all.
        recipe: an object or a name, as for `mm.fit`; by default a short one that suits the data.
        binding: by default the model's own.
        seed: decides what is held out, what is suggested, and the first weights and order of samples in every trial.
        seeds: the number of trainings of each algorithm in the final comparison; their seeds are 0, 1, ...
        run: a folder for the study, found.py with the best algorithm, search.json, report.html and the comparison.
        storage: the URL of a database for the study, as Optuna takes it; by default an SQLite file in `run`.
        callbacks: makes the callbacks of each training from its label, which begins with "trial" for a trial's.
        tell: is given a line after each trial.
        device: by default a GPU where there is one, else the CPU.
        progress: show each training as it goes, as `mm.fit` does.
        jobs: the number of trials at a time, in processes of their own: all are suggested from the same earlier ones.
        engine: "ray" makes that many trials at a time on a cluster (extra `cluster`).

    Raises:
        MinimandError: an argument that cannot be used; a run of other settings; no trial that was trained to its end.
        TypeError: data that cannot be split. ModuleNotFoundError: the extra is missing.
    """
    _check_numbers(steps, trials, seed, seeds)
    queue = _queue(jobs, engine, callbacks, progress)
    data, device = as_data(data), as_device(device)
    plain = model_for(model, data, "gradient_descent", binding)
    recipe = as_recipe(recipe) or default_recipe(data, plain)
    task = TrialTask(hold_out(data, _HELD_OUT, seed), model, binding, recipe, device, seed, plain)
    settings, folder = _settings(task, data, steps), Path(run)
    with Run(folder).claimed():
        check_holds(folder, "search", (DATABASE, FILE))
        with opened_study(folder, storage, settings, tell) as (study, keep):
            all_trials = make_trials(study, keep, task, steps, trials, queue, folder.absolute(), tell)
        return _conclude(task, all_trials, data, folder, seeds, queue)


def _settings(task: TrialTask, data: Data, steps: int) -> dict[str, Any]:
    """What decides the trials of a search, as plain values."""
    config = configuration(task.plain, data, Backpropagation(), task.recipe, None, task.seed, task.device)
    return json.loads(json.dumps({**config, "steps": steps}))


def _queue(jobs: int | None, engine: Engine | None, callbacks: CallbacksByLabel, progress: bool) -> Queue:
    require("optuna", "search", "to search for coefficients")
    if is_launched():
        raise MinimandError("search under torchrun; expected jobs= or engine='ray', which make trials side by side.")
    queue = as_queue(jobs, engine, callbacks, progress)
    if engine is not None and jobs is None:
        raise MinimandError("jobs is None; expected the number of trials at a time, which decides what is suggested.")
    return queue


def _check_numbers(steps: int, trials: int, seed: int, seeds: int) -> None:
    for name, value in (("steps", steps), ("trials", trials), ("seeds", seeds)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise MinimandError(f"{name} is {value!r}; expected an integer of at least 1.")
    check_seed(seed)
    if seed < seeds:
        raise MinimandError(
            f"seed is {seed}, which the final comparison uses; expected {seeds} or more, so that no training chooses "
            "the algorithm and judges it too."
        )


def _conclude(task: TrialTask, trials: list[Trial], data: Data, folder: Path, seeds: int, queue: Queue) -> SearchResult:
    """Write down the best algorithm, and train it and the known ones afresh on all data."""
    trained = best_first(trials)
    if not trained:
        raise MinimandError(
            f"none of the {len(trials)} trials was trained to its end: {tally(trials)}. Lower the learning rate of the "
            "recipe, in another folder."
        )
    best = trained[0]
    certificate = certify_model(task.network(best.method.algorithm))
    nearest = _nearest(best.method.algorithm, task.depth, certificate.binding)
    file = folder / "found.py"
    write_whole(file, best.method.source(_about(task, trials, best, certificate, nearest)))
    algorithm = as_algorithm(f"{file}:Found")
    is_known = any(equivalent(algorithm, name).relation == "identical" for name in KNOWN)
    compared = list(KNOWN) if is_known else [algorithm, *KNOWN]
    comparison = compare(
        compared,
        data,
        model=task.model,
        seeds=seeds,
        recipe=task.recipe,
        binding=task.binding,
        run=folder / "comparison",
        callbacks=queue.callbacks,
        device=task.device,
        progress=queue.progress,
        jobs=queue.jobs,
        engine=queue.engine,
    )
    result = SearchResult(
        data=data.name,
        model=task.model,
        held_out=len(task.data.test),
        seed=task.seed,
        trials=trials,
        source=file.read_text(encoding="utf-8"),
        certificate=certify_model(task.network(algorithm)),
        identification=identify(algorithm),
        nearest=nearest,
        comparison=comparison,
        run=folder,
    )
    result.write(bibtex(result, task.plain, data))
    return result


def _about(
    task: TrialTask, trials: list[Trial], best: Trial, certificate: Certificate, nearest: list[tuple[str, float]]
) -> list[str]:
    """The paragraphs in the docstring of the best algorithm, below its formula."""
    descent = [t for t in best_first(trials) if t.method.known == "gradient_descent"]
    against = f", against {descent[0].loss:.4f} of gradient descent" if descent else ""
    why = f" ({certificate.reasons['order']})" if certificate.reasons["order"] else ""
    distances = ", ".join(f"{apart:.4g} from {name}" for name, apart in nearest)
    return [
        f"Found by `minimand search` on {task.data.name} with {task.model}, {task.recipe.epochs} epochs: validation "
        f"loss {best.loss:.4f}, the lowest of {len(trials)} trials{against} (seed {task.seed}, {best.date}).",
        "Converges: nothing is known of it as a minimizer. Zero-stable, and of order "
        f"{certificate.order} for x' = -grad(x){why}.",
        f"Network: a linear multistep network; over {task.depth} layers its kernel is at the L1 distance {distances}.",
    ]


def _nearest(algorithm: Algorithm, depth: int, binding: Binding) -> list[tuple[str, float]]:
    """The three nearest known algorithms, with their default coefficients; of several that are the same, one."""
    distances = [(known := cls(), distance(algorithm, known, depth, binding)) for cls in ALGORITHMS.values()]
    nearest: list[tuple[Algorithm, float]] = []
    for known, apart in sorted(distances, key=lambda entry: entry[1]):
        if len(nearest) < 3 and apart < math.inf and all(distance(known, near, depth, binding) for near, _ in nearest):
            nearest.append((known, apart))
    return [(str(known), apart) for known, apart in nearest]

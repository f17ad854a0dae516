"""Looks for better coefficients, in the certified region only."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .._support.environment import as_device, default_device
from .._support.errors import MinimandError
from .._support.extras import require
from .._support.files import write_whole
from ..algorithms._algorithm import Algorithm
from ..algorithms._registry import as_algorithm, builtin
from ..data.conversion import as_data
from ..data.data import Data
from ..data.holding_out import hold_out
from ..models.network import UnrolledNetwork
from ..models.registry import create_for
from ..recipes.recipe import Recipe, default_recipe
from ..report.citing import bibliography
from ..report.explain import certify_model
from ..theory.certificate import Certificate, certify
from ..theory.distance import distance
from ..theory.equivalence import equivalent, identify
from ..theory.kernel import Binding
from ..training.arguments import check_seed
from ..training.fit import fit
from ..training.hooks.nonfinite import NonFiniteLossError
from ..training.loop.events import Callback, EpochDone, Event
from ..training.methods.backpropagation import Backpropagation
from ..training.runs.configuration import configuration
from ..training.runs.run import Run, differences
from .compare import compare
from .multistep import KNOWN, PRECISION, Multistep, from_parameters, known_parameters, ranges
from .search_result import FILE, Search, Trial, best_first, tally

if TYPE_CHECKING:
    import optuna

_HELD_OUT = 0.2


def search(
    data: Any = "digits",
    model: str = "resnet20",
    steps: int = 2,
    trials: int = 50,
    recipe: Recipe | None = None,
    binding: Binding | None = None,
    seed: int = 1000,
    seeds: int = 3,
    run: str | Path = "runs/search",
    storage: str | None = None,
    callbacks: Callable[[str], Sequence[Callback]] = lambda label: (),
    tell: Callable[[str], None] = lambda line: None,
    device: str | torch.device | None = None,
) -> Search:
    """Look for the explicit linear multistep method whose network learns best on some data (extra `search`).

    Methods with the same coefficients in every layer are suggested by Optuna (Akiba et al. 2019), gradient descent,
    heavy ball and Nesterov's method first. Only those that are consistent and zero-stable, with every gain nonzero in
    the model's longest stage, are trained; they are judged by the loss on a fifth of the training samples, which is
    held out. The best one, and the known ones, are then trained afresh on all training samples with other seeds and
    judged on the test samples.

    The folder holds the study, found.py with the algorithm found as a class, search.json, report.html, and the
    comparison with its runs. The same call on the same folder goes on where it was; more trials go on from there.

    Args:
        data: as for `mm.fit`, but for loaders, of which no part can be held out.
        model: a model's name, with settings if need be.
        steps: how many of its last states and answers a step reads, at least 1.
        trials: how many algorithms are looked at in all.
        recipe: by default a short one that suits the data.
        binding: by default the model's own.
        seed: decides what is held out, what is suggested, and the first weights and order of samples in every trial.
        seeds: how many trainings the final comparison makes of each algorithm; they are seeded 0, 1, ...
        run: where everything is kept.
        storage: the URL of a database for the study, as Optuna takes it; by default an SQLite file in the folder.
        callbacks: makes the callbacks of each training from its label, which begins with "trial" for one of a trial;
            what these call the test samples are the ones held out.
        tell: is given a line after each trial.
        device: by default a GPU where there is one, else the CPU.

    Raises:
        ValueError: an argument that cannot be used; a folder or a study of other settings; no trial that was trained
            to its end. TypeError: data that cannot be split. ModuleNotFoundError: the extra is missing.
    """
    require("optuna", "search", "to search for coefficients")
    for name, value in (("steps", steps), ("trials", trials), ("seeds", seeds)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise MinimandError(f"{name} is {value!r}; expected an integer of at least 1.")
    check_seed(seed)
    if seed < seeds:
        raise MinimandError(
            f"seed is {seed}, which the final comparison uses; expected {seeds} or more, so that no training chooses "
            "the algorithm and judges it too."
        )
    data = as_data(data)
    where = default_device() if device is None else as_device(device)
    plain = create_for(model, data.shape, data.num_outputs, "gradient_descent", binding)
    recipe = recipe or default_recipe(data, plain, where)
    task = _Task(data, hold_out(data, _HELD_OUT, seed), model, binding, recipe, seed, where, plain)
    config = configuration(plain, data, Backpropagation(), recipe, None, seed, where)
    settings = json.loads(json.dumps({**config, "steps": steps}))
    place = Path(run)
    with Run(place).claimed():
        _check_place(place)
        with _opened(place, storage, settings, recipe.epochs) as study:
            looked_at = _look(study, task, steps, trials, callbacks, tell)
        return _conclude(task, looked_at, place, seeds, callbacks)


@dataclass(frozen=True)
class _Task:
    """What all trials have in common."""

    data: Data
    held: Data
    """Without the test samples."""
    model: str
    binding: Binding | None
    recipe: Recipe
    seed: int
    device: torch.device
    plain: UnrolledNetwork
    """The model run by gradient descent."""

    @property
    def depth(self) -> int:
        """Of the longest stage."""
        return max(len(stage.layers) for stage in self.plain.stages)

    def network(self, algorithm: Algorithm) -> UnrolledNetwork:
        return create_for(self.model, self.data.shape, self.data.num_outputs, algorithm, self.binding)

    def train(self, algorithm: Algorithm, callbacks: Sequence[Callback]) -> float:
        """The loss on the held-out samples in the end."""
        torch.manual_seed(self.seed)
        return fit(
            self.network(algorithm),
            self.held,
            recipe=self.recipe,
            seed=self.seed,
            device=self.device,
            callbacks=callbacks,
        ).test_loss


_DATABASE = "study.db"


def _check_place(place: Path) -> None:
    """Raise ValueError if the folder holds anything but a search."""
    is_new = not (place / _DATABASE).is_file() and not (place / FILE).is_file()
    if is_new and any(place.iterdir()):
        raise MinimandError(f"{place} holds files but no search; name an empty or a new folder.")


@contextmanager
def _opened(place: Path, storage: str | None, settings: dict[str, Any], epochs: int) -> Iterator["optuna.Study"]:
    """The study of a folder, new or as it was left."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url, name = (f"sqlite:///{place / _DATABASE}", "search") if storage is None else (storage, str(place))
    try:
        database = _database(url)
        try:
            # A trial worse than the median is stopped after a third of its epochs, or after two.
            third = -(-epochs // 3)
            pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=third, interval_steps=third)
            study = optuna.create_study(storage=database, study_name=name, pruner=pruner, load_if_exists=True)
            changed = differences(study.user_attrs.get("settings", settings), settings)
            if changed:
                raise MinimandError(
                    f"{place} holds a search with other settings: {'; '.join(changed)}. Losses of both would not "
                    "compare; name another folder."
                )
            study.set_user_attr("settings", settings)
            yield study
        finally:
            database.remove_session()
            database.engine.dispose()
    finally:
        optuna.logging.set_verbosity(verbosity)


def _database(url: str) -> "optuna.storages.RDBStorage":
    import optuna

    try:
        return optuna.storages.RDBStorage(url)
    except Exception as error:  # the database's own
        raise MinimandError(
            f"storage is {url!r}, which Optuna cannot open ({type(error).__name__}: {error}); expected the URL of a "
            "database, such as 'sqlite:///path/to/file.db'."
        ) from None


def _look(
    study: "optuna.Study",
    task: _Task,
    steps: int,
    trials: int,
    callbacks: Callable[[str], Sequence[Callback]],
    tell: Callable[[str], None],
) -> list[Trial]:
    """Make the trials that are missing; all that there are."""
    from optuna.distributions import BaseDistribution, FloatDistribution
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    space: dict[str, BaseDistribution] = {
        name: FloatDistribution(*bounds, step=10**-PRECISION) for name, bounds in ranges(steps).items()
    }
    for parameters in known_parameters(steps).values():
        study.enqueue_trial(parameters, skip_if_exists=True)
    for broken_off in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(broken_off.number, state=TrialState.FAIL)
        study.enqueue_trial(broken_off.params)
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    if before := len(study.get_trials(deepcopy=False, states=ended)):
        tell(f"going on: {before} trials were made before")
    while (done := len(study.get_trials(deepcopy=False, states=ended))) < trials:
        # Seeded anew for each trial: a search that was broken off suggests what it would have suggested.
        study.sampler = TPESampler(seed=(task.seed * 1_000_003 + done) % 2**32)
        trial = study.ask(space)
        method = from_parameters(trial.params)
        outcome, loss = _try(method, task, trial, callbacks(f"trial {done + 1}"))
        trial.set_user_attr("outcome", outcome)
        study.tell(trial, loss, state=TrialState.PRUNED if loss is None else TrialState.COMPLETE)
        told = outcome if loss is None else f"validation loss {loss:.4f}"
        tell(f"trial {done + 1}/{trials}  {method.formula}: {told}")
    in_order = sorted(study.get_trials(states=ended), key=lambda t: (t.datetime_complete, t.number))
    return [_as_trial(i + 1, t) for i, t in enumerate(in_order)]


def _try(
    method: Multistep, task: _Task, trial: "optuna.Trial", callbacks: Sequence[Callback]
) -> tuple[str, float | None]:
    """What came of a method: in a word, and the loss if it was trained to its end."""
    from optuna import TrialPruned

    def report(event: Event) -> None:
        if isinstance(event, EpochDone):
            epoch = event.epoch + 1
            trial.report(event.metrics["test_loss"], epoch)
            if epoch < task.recipe.epochs and trial.should_prune():
                raise TrialPruned

    objection = _objection(certify(method.algorithm, task.depth, task.plain.binding))
    if objection:
        return f"not certified: {objection}", None
    try:
        return "trained", task.train(method.algorithm, [*callbacks, report])
    except TrialPruned:
        return "stopped early", None
    except NonFiniteLossError:
        return "diverged", None


def _as_trial(number: int, trial: "optuna.trial.FrozenTrial") -> Trial:
    outcome = trial.user_attrs["outcome"]
    # What Optuna calls the value of a trial that was stopped early is that of its last epoch.
    loss = trial.value if outcome == "trained" else None
    return Trial(number, from_parameters(trial.params), outcome, loss, f"{trial.datetime_complete:%Y-%m-%d}")


def _objection(certificate: Certificate) -> str:
    """Why an algorithm lies outside the region that is searched; nothing if it lies within."""
    for name in ("consistent", "zero_stable"):
        if not getattr(certificate, name):
            return f"not {name.replace('_', '-')}: {certificate.reasons[name]}"
    silent = [str(answer.layer) for answer, gain in certificate.gradients.gains.items() if gain == 0]
    return f"the gain of layer {', '.join(silent)} is 0" if silent else ""


def _conclude(
    task: _Task, trials: list[Trial], place: Path, seeds: int, callbacks: Callable[[str], Sequence[Callback]]
) -> Search:
    """Write down what was found, and train it and the known ones afresh."""
    trained = best_first(trials)
    if not trained:
        raise MinimandError(
            f"none of the {len(trials)} trials was trained to its end: {tally(trials)}. Lower the learning rate of the "
            "recipe, in another folder."
        )
    best = trained[0]
    certificate = certify_model(task.network(best.method.algorithm))
    near = _nearest(best.method.algorithm, task.depth, certificate.binding)
    file = place / "found.py"
    write_whole(file, best.method.source(_about(task, trials, best, certificate, near)))
    found = as_algorithm(f"{file}:Found")
    is_known = any(equivalent(found, name).relation == "identical" for name in KNOWN)
    comparison = compare(
        [*([] if is_known else [found]), *KNOWN],
        task.data,
        task.model,
        seeds,
        task.recipe,
        task.binding,
        place / "comparison",
        callbacks,
        task.device,
    )
    result = Search(
        data=task.data.name,
        model=task.model,
        held_out=len(task.held.test),
        seed=task.seed,
        trials=trials,
        source=file.read_text(encoding="utf-8"),
        certificate=certify_model(task.network(found)),
        identification=identify(found),
        nearest=near,
        comparison=comparison,
        folder=place,
    )
    result.keep(bibliography(result, task.plain, task.data))
    return result


def _about(
    task: _Task, trials: list[Trial], best: Trial, certificate: Certificate, near: list[tuple[str, float]]
) -> list[str]:
    """The docstring of what was found, below its formula."""
    descent = [t for t in best_first(trials) if t.method.known == "gradient_descent"]
    against = f", against {descent[0].loss:.4f} of gradient descent" if descent else ""
    why = f" ({certificate.reasons['order']})" if certificate.reasons["order"] else ""
    listed = ", ".join(f"{apart:.4g} from {name}" for name, apart in near)
    return [
        f"Found by `minimand search` on {task.data.name} with {task.model}, {task.recipe.epochs} epochs: validation "
        f"loss {best.loss:.4f}, the lowest of {len(trials)} trials{against} (seed {task.seed}, {best.date}).",
        "Converges: nothing is known of it as a minimizer. Zero-stable, and of order "
        f"{certificate.order} for x' = -grad(x){why}.",
        f"Network: a linear multistep network; over {task.depth} layers its kernel is at the L1 distance {listed}.",
    ]


def _nearest(algorithm: Algorithm, depth: int, binding: Binding) -> list[tuple[str, float]]:
    """The three nearest known algorithms, with their default coefficients; of those that are the same, one."""
    apart = [(known := cls(), distance(algorithm, known, depth, binding)) for cls in builtin.values()]
    found: list[tuple[Algorithm, float]] = []
    for known, far in sorted(apart, key=lambda entry: entry[1]):
        if len(found) < 3 and far < math.inf and all(distance(known, other, depth, binding) for other, _ in found):
            found.append((known, far))
    return [(str(known), far) for known, far in found]

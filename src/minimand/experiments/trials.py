"""The trials of a search: methods that Optuna suggests, certified, trained and judged on held-out samples."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._support.errors import MinimandError
from .._support.files import write_whole
from .._support.seeds import derived_seed
from ..models import UnrolledNetwork
from ..theory import Certificate, certify
from ..training import Callback, EpochDone, Event, NonFiniteLossError
from ..training.runs.run import differences
from .compare import Task
from .multistep import PRECISION, Multistep, from_parameters, known_parameters, ranges
from .study import CallbacksByLabel

if TYPE_CHECKING:
    import optuna

DATABASE = "study.db"  # Optuna's study, in the folder of a search
_COPY = "study.sealed"  # the study after the last trial that ended, with its checksum
_COPY_KIND = "minimand search 1"


@dataclass(frozen=True)
class Trial:
    """An algorithm that a search looked at."""

    number: int
    """The place of the trial in the order in which trials ended, from 1."""
    method: Multistep
    outcome: str
    """One of: trained, stopped early, diverged, or not certified and why."""
    loss: float | None
    """The loss on the held-out samples; None if the trial was not trained to its end."""
    date: str


def best_first(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that were trained to their end, by their loss."""
    return sorted((t for t in trials if t.loss is not None), key=lambda t: t.loss or 0.0)


def tally(trials: Sequence[Trial]) -> str:
    """The number of trials of each outcome, as in "6 trained, 2 diverged"."""
    return ", ".join(f"{n} {outcome}" for outcome, n in Counter(t.outcome.partition(":")[0] for t in trials).items())


@dataclass(frozen=True)
class TrialTask(Task):
    """The training that all trials have in common; its test samples are the ones held out."""

    seed: int
    plain: UnrolledNetwork
    """The model wired by gradient descent."""

    @property
    def depth(self) -> int:
        """The number of layers of the model's longest stage."""
        return max(len(stage.layers) for stage in self.plain.stages)


@contextmanager
def opened_study(
    folder: Path, storage: str | None, settings: dict[str, Any], epochs: int, tell: Callable[[str], None]
) -> Iterator[tuple["optuna.Study", Callable[[], None]]]:
    """Optuna's study of a folder, new or as the last trial left it, and a function that keeps it after a trial.

    Raises MinimandError if it has other settings. What becomes of a database of one's own is its own matter.
    """
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url, name = (f"sqlite:///{folder / DATABASE}", "search") if storage is None else (storage, str(folder))
    if storage is None:
        _restore(folder, tell)
    try:
        database = _open_database(url)
        try:
            # A trial worse than the median is stopped after a third of its epochs, or after two.
            third = -(-epochs // 3)
            pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=third, interval_steps=third)
            study = optuna.create_study(storage=database, study_name=name, pruner=pruner, load_if_exists=True)
            if changed := differences(study.user_attrs.get("settings", settings), settings):
                raise MinimandError(
                    f"{folder} holds a search with other settings: {'; '.join(changed)}. Losses of both would not "
                    "compare; name another folder."
                )
            study.set_user_attr("settings", settings)
            yield study, lambda: _keep(folder) if storage is None else None
        except optuna.exceptions.StorageInternalError as error:
            raise MinimandError(
                f"the trials cannot be kept in {url} ({_first_line(error.__cause__ or error)}); free some space or "
                "allow writing, then run the same search again."
            ) from error
        finally:
            database.remove_session()
            database.engine.dispose()
    finally:
        optuna.logging.set_verbosity(verbosity)


def _keep(folder: Path) -> None:
    content = (folder / DATABASE).read_bytes()
    write_whole(folder / _COPY, f"{_COPY_KIND} {_digest(content)}\n", content)


def _restore(folder: Path, tell: Callable[[str], None]) -> None:
    """Let the database be what it was after the last trial that ended: a kill may have come at any moment after it."""
    copy, database = folder / _COPY, folder / DATABASE
    if not copy.is_file():
        return
    head, _, content = copy.read_bytes().partition(b"\n")
    if head != f"{_COPY_KIND} {_digest(content)}".encode():
        tell(f"{copy} is damaged: its checksum is not that of its content. {DATABASE} is used as it is")
        return
    if not database.is_file() or database.read_bytes() != content:
        (folder / f"{DATABASE}-journal").unlink(missing_ok=True)
        write_whole(database, content)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _open_database(url: str) -> "optuna.storages.RDBStorage":
    import optuna

    try:
        return optuna.storages.RDBStorage(url)
    except Exception as error:  # the database's own
        raise MinimandError(
            f"storage is {url!r}, which Optuna cannot open ({type(error).__name__}: {_first_line(error)}); expected "
            "the URL of a database, such as 'sqlite:///path/to/file.db', on a disk with space."
        ) from None


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def make_trials(
    study: "optuna.Study",
    keep: Callable[[], None],
    task: TrialTask,
    steps: int,
    count: int,
    callbacks: CallbacksByLabel,
    tell: Callable[[str], None],
) -> list[Trial]:
    """Make the trials that a study lacks of `count` trials, and return all that it has, in the order of their ends.

    A method reads `steps` past states and answers; after each trial `keep` is called and `tell` is given a line. The
    trials are those of a search that was never broken off: the known methods first, each in its place.
    """
    from optuna.distributions import BaseDistribution, FloatDistribution
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    space: dict[str, BaseDistribution] = {
        name: FloatDistribution(*bounds, step=10**-PRECISION) for name, bounds in ranges(steps).items()
    }
    # Trials that were broken off count for nothing: what comes next follows from those that ended.
    for broken_off in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(broken_off.number, state=TrialState.FAIL)
    known = list(known_parameters(steps).values())
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    if before := len(study.get_trials(deepcopy=False, states=ended)):
        tell(f"going on: {before} trials were made before")
    while (number := len(study.get_trials(deepcopy=False, states=ended))) < count:
        watched = callbacks(f"trial {number + 1}")
        if number < len(known):
            method, outcome, loss = _try_known(known[number], space, study, task, watched)
        else:
            # Seeded anew for each trial: a search that was broken off suggests what it would have suggested.
            study.sampler = TPESampler(seed=derived_seed(task.seed, number) % 2**32)
            trial = study.ask(space)
            method = from_parameters(trial.params)
            outcome, loss = _try(method, task, trial.report, trial.should_prune, watched)
            trial.set_user_attr("outcome", outcome)
            study.tell(trial, loss, state=TrialState.PRUNED if loss is None else TrialState.COMPLETE)
        keep()
        news = outcome if loss is None else f"validation loss {loss:.4f}"
        tell(f"trial {number + 1}/{count}  {method.formula}: {news}")
    in_order = sorted(study.get_trials(states=ended), key=lambda t: (t.datetime_complete, t.number))
    return [_as_trial(i + 1, t) for i, t in enumerate(in_order)]


def _try_known(
    parameters: dict[str, float],
    space: "dict[str, optuna.distributions.BaseDistribution]",
    study: "optuna.Study",
    task: TrialTask,
    callbacks: Sequence[Callback],
) -> tuple[Multistep, str, float | None]:
    """Try a known method: its trial is written once it has ended, so that the known ones keep their order."""
    from optuna.trial import TrialState, create_trial

    method, losses = from_parameters(parameters), dict[int, float]()
    outcome, loss = _try(method, task, lambda value, epoch: losses.update({epoch: value}), lambda: False, callbacks)
    trial = create_trial(
        params=parameters,
        distributions=space,
        value=loss,
        intermediate_values=losses,
        user_attrs={"outcome": outcome},
        state=TrialState.PRUNED if loss is None else TrialState.COMPLETE,
    )
    study.add_trial(trial)
    return method, outcome, loss


def _try(
    method: Multistep,
    task: TrialTask,
    report_loss: Callable[[float, int], None],
    should_stop: Callable[[], bool],
    callbacks: Sequence[Callback],
) -> tuple[str, float | None]:
    from optuna import TrialPruned

    def report(event: Event) -> None:
        if isinstance(event, EpochDone):
            epoch = event.epoch + 1
            report_loss(event.metrics["test_loss"], epoch)
            if epoch < task.recipe.epochs and should_stop():
                raise TrialPruned

    if objection := _objection(certify(method.algorithm, task.depth, task.plain.binding)):
        return f"not certified: {objection}", None
    try:
        return "trained", task.train(method.algorithm, task.seed, [*callbacks, report]).test_loss
    except TrialPruned:
        return "stopped early", None
    except NonFiniteLossError:
        return "diverged", None


def _as_trial(number: int, trial: "optuna.trial.FrozenTrial") -> Trial:
    outcome = trial.user_attrs["outcome"]
    loss = trial.value if outcome == "trained" else None  # stopped early, its value is that of its last epoch
    return Trial(number, from_parameters(trial.params), outcome, loss, f"{trial.datetime_complete:%Y-%m-%d}")


def _objection(certificate: Certificate) -> str:
    """The reason why an algorithm lies outside the region that is searched; nothing if it lies within."""
    for name in ("consistent", "zero_stable"):
        if not getattr(certificate, name):
            return f"not {name.replace('_', '-')}: {certificate.reasons[name]}"
    silent = [str(answer.layer) for answer, gain in certificate.gradients.gains.items() if gain == 0]
    return f"the gain of layer {', '.join(silent)} is 0" if silent else ""

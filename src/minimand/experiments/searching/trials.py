"""The trials of a search: methods that Optuna suggests, certified, trained and judged on held-out samples."""

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..._support.errors import MinimandError
from ..._support.files import write_whole
from ..._support.torch.seeds import derived_seed
from ...models import UnrolledNetwork
from ...theory import Certificate, certify
from ...training import Callback, EpochDone, Event, NonFiniteLossError
from ...training.runs.run import differences
from ..comparing.outcomes import Task
from ..study import CallbacksByLabel
from ..tasks.queue import Queue
from ..tasks.work import Record, Records, Work
from .multistep import PRECISION, Multistep, from_parameters, known_parameters, ranges

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
    folder: Path, storage: str | None, settings: dict[str, Any], tell: Callable[[str], None]
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
            study = optuna.create_study(storage=database, study_name=name, load_if_exists=True)
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
    except Exception as error:  # drivers of databases raise errors of their own
        raise MinimandError(
            f"storage is {url!r}, which Optuna cannot open ({type(error).__name__}: {_first_line(error)}); expected "
            "the URL of a database, such as 'sqlite:///path/to/file.db', on a disk with space."
        ) from None


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


@dataclass(frozen=True)
class _Attempt:
    """A method to be tried, as the trial of a number, counted from 0."""

    number: int
    parameters: Mapping[str, float]
    history: "Sequence[optuna.trial.FrozenTrial] | None"
    """The trials that it is stopped early by if it is worse; None for a known method, which never is."""


@dataclass(frozen=True)
class _Trying(Work[_Attempt]):
    """The sequence of trials of a search, each of which Optuna's sampler suggests."""

    task: TrialTask
    settings: Mapping[str, Any]

    @property
    def device(self) -> torch.device:
        return self.task.device

    def key(self, task: _Attempt) -> str:
        content = json.dumps([dict(task.parameters), dict(self.settings)], sort_keys=True).encode()
        return f"trial{task.number + 1}-{_digest(content)[:16]}"

    def label(self, task: _Attempt) -> str:
        return f"trial {task.number + 1}"

    def do(self, task: _Attempt, callbacks: CallbacksByLabel) -> Record:
        method, losses = from_parameters(task.parameters), dict[int, float]()
        watched = [*callbacks(self.label(task)), _judge(task, self.task.recipe.epochs, losses)]
        outcome, loss = _try(method, self.task, watched)
        return {"outcome": outcome, "loss": loss, "losses": [*losses.items()]}


def make_trials(
    study: "optuna.Study",
    keep: Callable[[], None],
    task: TrialTask,
    steps: int,
    count: int,
    queue: Queue,
    folder: Path,
    tell: Callable[[str], None],
) -> list[Trial]:
    """Make the trials that a study lacks of `count` trials, and return all that it has, in the order of their numbers.

    A method reads `steps` past states and answers; after each trial `keep` is called and `tell` is given a line. The
    trials are those of a search that was never broken off: the known methods first, each in its place; then as many at
    a time as the queue has jobs, all suggested from the same earlier ones.
    """
    from optuna.trial import TrialState

    known, records = list(known_parameters(steps).values()), Records(folder / "trials")
    work, at_a_time = _Trying(task, study.user_attrs["settings"]), queue.jobs or 1
    if before := len(_ended(study)):
        tell(f"going on: {before} trials were made before")
    while (number := len(ended := _ended(study))) < count:
        if number < len(known):
            attempts = [_Attempt(i, parameters, None) for i, parameters in enumerate(known)]
        else:
            begin = number - (number - len(known)) % at_a_time
            suggested = _suggested(ended[:begin], steps, task.seed, at_a_time)
            attempts = [_Attempt(begin + i, parameters, ended[:begin]) for i, parameters in enumerate(suggested)]
        waiting: dict[int, Record] = {}

        def add(attempt: _Attempt, record: Record, waiting: dict[int, Record] = waiting) -> None:
            """Add trials to the study in the order of their numbers, whichever ends first."""
            waiting[attempt.number] = record | {"attempt": attempt}
            while (ready := waiting.pop(len(_ended(study)), None)) is not None:
                attempt, loss = ready["attempt"], ready["loss"]
                state = TrialState.PRUNED if loss is None else TrialState.COMPLETE
                study.add_trial(_frozen(attempt.parameters, steps, state, ready))
                keep()
                records.remove(work.key(attempt))
                news = ready["outcome"] if loss is None else f"validation loss {loss:.4f}"
                tell(f"trial {attempt.number + 1}/{count}  {from_parameters(attempt.parameters).formula}: {news}")

        queue.run(work, [attempt for attempt in attempts if number <= attempt.number < count], records, add)
    return [_as_trial(i + 1, trial) for i, trial in enumerate(_ended(study))]


def _ended(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """The trials of a study in the order of their ends."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return sorted(trials, key=lambda trial: trial.number)


def _space(steps: int) -> "dict[str, optuna.distributions.BaseDistribution]":
    from optuna.distributions import FloatDistribution

    return {name: FloatDistribution(*bounds, step=10**-PRECISION) for name, bounds in ranges(steps).items()}


def _suggested(
    history: "Sequence[optuna.trial.FrozenTrial]", steps: int, seed: int, count: int
) -> list[dict[str, float]]:
    """What Optuna suggests after earlier trials: several at once keep away from each other (constant liar).

    The sampler is seeded anew for each trial: a search that was broken off suggests what it would have suggested.
    """
    import optuna

    study, suggested = _in_memory(history), []
    for number in range(len(history), len(history) + count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            number_seed = derived_seed(seed, number) % 2**32
            study.sampler = optuna.samplers.TPESampler(seed=number_seed, constant_liar=count > 1)
        suggested.append(dict(study.ask(_space(steps)).params))
    return suggested


def _in_memory(history: "Sequence[optuna.trial.FrozenTrial]", epochs: int = 1) -> "optuna.Study":
    """A study in memory with earlier trials; a trial worse than the median is stopped after a third of its epochs."""
    import optuna

    third = -(-epochs // 3)  # checked again after two thirds
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=third, interval_steps=third)
    study = optuna.create_study(pruner=pruner)
    study.add_trials(history)
    return study


def _frozen(
    parameters: Mapping[str, float], steps: int, state: "optuna.trial.TrialState", record: Record
) -> "optuna.trial.FrozenTrial":
    """A trial as Optuna keeps it, once it has ended: so trials keep their order."""
    from optuna.trial import create_trial

    return create_trial(
        params=dict(parameters),
        distributions=_space(steps),
        value=record["loss"],
        intermediate_values=dict(record["losses"]),
        user_attrs={"outcome": record["outcome"]},
        state=state,
    )


def _judge(attempt: _Attempt, epochs: int, losses: dict[int, float]) -> Callback:
    """A callback that notes the losses of a trial by its epochs, and ends it where it is worse than the others."""
    from optuna import TrialPruned

    trial = None
    if attempt.history is not None:
        study = _in_memory(attempt.history, epochs)
        study.enqueue_trial(dict(attempt.parameters))
        trial = study.ask()

    def judge(event: Event) -> None:
        if isinstance(event, EpochDone):
            epoch = event.epoch + 1
            losses[epoch] = event.metrics["test_loss"]
            if trial is not None:
                trial.report(losses[epoch], epoch)
                if epoch < epochs and trial.should_prune():
                    raise TrialPruned

    return judge


def _try(method: Multistep, task: TrialTask, callbacks: Sequence[Callback]) -> tuple[str, float | None]:
    from optuna import TrialPruned

    if objection := _objection(certify(method.algorithm, task.depth, task.plain.binding)):
        return f"not certified: {objection}", None
    try:
        return "trained", task.train(method.algorithm, task.seed, callbacks).test_loss
    except TrialPruned:
        return "stopped early", None
    except NonFiniteLossError:
        return "diverged", None


def _as_trial(number: int, trial: "optuna.trial.FrozenTrial") -> Trial:
    outcome = trial.user_attrs["outcome"]
    return Trial(number, from_parameters(trial.params), outcome, trial.value, f"{trial.datetime_complete:%Y-%m-%d}")


def _objection(certificate: Certificate) -> str:
    """The reason why an algorithm lies outside the region that is searched; nothing if it lies within."""
    for name in ("consistent", "zero_stable"):
        if not getattr(certificate, name):
            return f"not {name.replace('_', '-')}: {certificate.reasons[name]}"
    silent = [str(answer.layer) for answer, gain in certificate.gradients.gains.items() if gain == 0]
    return f"the gain of layer {', '.join(silent)} is 0" if silent else ""

"""Many runs: the tasks of a study, a comparison or a search, done here, by several processes or by a cluster."""

import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Generic, Literal, Protocol, TypeVar, get_args

from ..._support.checks import check_number
from ..._support.errors import MinimandError
from ..._support.extras import require
from ...training.distributed.processes import is_launched
from ...training.distributed.world import World
from ...training.hooks.watching.progress import with_progress
from ...training.runs.interrupts import Interrupts, deferred_interrupts
from ..study import CallbacksByLabel
from .ray_workers import RayWorkers
from .work import Record, Records, Work
from .workers import LocalWorkers, Package, packed

Engine = Literal["ray"]
"""What spreads tasks over several machines."""
T = TypeVar("T")

_MOST_LOSSES = 5  # workers that are lost at one task before it is given up
_PATIENCE = 30.0  # seconds that workers have to write their checkpoints after an interrupt


class FailedTasksError(MinimandError):
    """Tasks of a queue that failed by their own errors; what the others came to is kept."""


class Workers(Protocol):
    """Processes that do tasks: as many as there is `room` for at a time."""

    room: int

    def submit(self, number: int) -> "Future[Mapping[str, str]]":
        """Do the task of a number; the future raises where its worker was lost."""
        ...

    def interrupt(self) -> None:
        """Ask all workers to write their checkpoints and stop."""
        ...

    def kill(self) -> None:
        """End the processes of all workers at once."""
        ...


def no_callbacks(label: str) -> tuple[()]:
    """No callbacks, for a training of any label."""
    return ()


@dataclass(frozen=True)
class Queue:
    """The place where tasks are done: in this process one after another, or by workers in any order."""

    jobs: int | None = None
    """The most tasks at a time; None for one, or for all that a cluster has room for."""
    engine: Engine | None = None
    callbacks: CallbacksByLabel = no_callbacks
    progress: bool = False
    """Whether workers print a line for each epoch."""

    @property
    def is_here(self) -> bool:
        """Whether tasks are done in this process."""
        return self.engine is None and self.jobs in (None, 1)

    def run(self, work: Work[T], tasks: Sequence[T], records: Records, done: Callable[[T, Record], None]) -> None:
        """Do the tasks that have no record yet, and tell `done` the record of each as it is there.

        Raises:
            FailedTasksError: tasks failed in workers; raised when all others are done. In this process the error of a
            task is raised as it is, at once.
        """
        if not self.is_here:
            self._run_elsewhere(work, tasks, records, done)
            return
        world = World()
        for task in tasks:
            key = work.key(task)
            record = world.on_main(lambda key=key: records.read(key))
            if record is None:
                result = work.do(task, self.callbacks)
                record = world.on_main(lambda key=key, result=result: records.write(key, result))
            done(task, record)

    def _run_elsewhere(
        self, work: Work[T], tasks: Sequence[T], records: Records, done: Callable[[T, Record], None]
    ) -> None:
        missing: list[T] = []
        for task in tasks:
            record = records.read(work.key(task))
            if record is None:
                missing.append(task)
            else:
                done(task, record)
        if not missing:
            return
        with packed(work, missing, records, self.progress) as package, self._workers(package, work) as workers:
            _Loop(work, missing, records, done, workers).run()

    def _workers(self, package: Package, work: Work[T]) -> AbstractContextManager[Workers]:
        if self.engine == "ray":
            return RayWorkers(package, self.jobs, work.device)
        assert self.jobs is not None
        return LocalWorkers(package, self.jobs)


class _Loop(Generic[T]):
    """Hands tasks to workers until all are done or failed; those of lost workers are done again."""

    def __init__(
        self, work: Work[T], tasks: Sequence[T], records: Records, done: Callable[[T, Record], None], workers: Workers
    ) -> None:
        self.work, self.tasks, self.records, self.done, self.workers = work, tasks, records, done, workers
        self.waiting = deque(range(len(tasks)))
        self.running: dict[Future[Mapping[str, str]], int] = {}
        self.losses = dict.fromkeys(self.waiting, 0)
        self.failures: dict[str, list[str]] = {}
        """The labels of the tasks that failed, by their errors."""

    def run(self) -> None:
        with deferred_interrupts() as interrupts:
            try:
                while self.waiting or self.running:
                    while self.waiting and len(self.running) < self.workers.room:
                        number = self.waiting.popleft()
                        self.running[self.workers.submit(number)] = number
                    ended, _ = wait(self.running, timeout=0.2, return_when=FIRST_COMPLETED)
                    for future in ended:
                        self._end(future, self.running.pop(future))
                    self._check_interrupts(interrupts)
            except BaseException:
                self.workers.kill()
                raise
        if self.failures:
            count = sum(map(len, self.failures.values()))
            reasons = " ".join(f"{', '.join(labels)}: {why}" for why, labels in self.failures.items())
            raise FailedTasksError(
                f"{count} of {len(self.tasks)} tasks failed; the others are kept, and the same call does only these "
                f"again. {reasons}"
            )

    def _end(self, future: "Future[Mapping[str, str]]", number: int) -> None:
        """Take what a task came to."""
        task = self.tasks[number]
        label = self.work.label(task)
        try:
            reply = future.result()
        except Exception as error:
            self._lose(number, label, error)
            return
        if reply["outcome"] == "unusable":
            raise MinimandError(reply["why"])
        if reply["outcome"] == "failed":
            self.failures.setdefault(reply["why"], []).append(label)
        if reply["outcome"] == "done":
            record = self.records.read(self.work.key(task))
            if record is None:
                raise MinimandError(
                    f"a worker has written the result of {label} to {self.records.folder}, and it is not there: the "
                    "workers see another folder; expected one on a file system that all machines share."
                )
            self.done(task, record)

    def _lose(self, number: int, label: str, error: Exception) -> None:
        """Put the task of a lost worker in front of the others, unless it has lost too many."""
        self.losses[number] += 1
        if self.losses[number] == _MOST_LOSSES:
            why = f"its worker was lost {_MOST_LOSSES} times, at last because {error}"
            self.failures.setdefault(why, []).append(label)
            return
        warnings.warn(f"the worker of {label} was lost ({error}); another one does it again.", stacklevel=2)
        self.waiting.appendleft(number)

    def _check_interrupts(self, interrupts: Interrupts) -> None:
        if interrupts.asked:
            self.workers.interrupt()
            wait(self.running, timeout=_PATIENCE)
            raise KeyboardInterrupt


def as_queue(
    jobs: int | None, engine: Engine | None, callbacks: CallbacksByLabel = no_callbacks, progress: bool = False
) -> Queue:
    """The queue of the arguments that studies, comparisons and searches have in common.

    Raises:
        MinimandError: a number of jobs below 1, an unknown engine, callbacks for trainings in other processes, or
        several jobs under torchrun, whose processes share each training. MissingPackageError: the extra is missing.
    """
    if jobs is not None:
        check_number("jobs", jobs, 1, float("inf"), whole=True)
    if engine is not None and engine not in get_args(Engine):
        expected = ", ".join(map(repr, get_args(Engine)))
        raise MinimandError(f"engine is {engine!r}; expected None, for processes of this machine, or {expected}.")
    queue = Queue(jobs, engine, callbacks, progress)
    if queue.is_here:
        return replace(queue, callbacks=_shown(callbacks) if progress else callbacks, progress=False)
    argument = f"engine is {engine!r}" if engine else f"jobs is {jobs}"
    if is_launched():
        raise MinimandError(
            f"{argument} under torchrun, whose processes share each training; expected one of the two: without it, or "
            "without torchrun."
        )
    if callbacks is not no_callbacks:
        raise MinimandError(f"{argument}, so trainings run in other processes, where callbacks would not be heard.")
    if engine == "ray":
        require("ray", "cluster", "to run tasks on a cluster")
    return queue


def _shown(callbacks: CallbacksByLabel) -> CallbacksByLabel:
    """Callbacks of each training by its label, with one that shows its progress."""
    return lambda label: with_progress(callbacks(label), True, label)


def only_main(function: Callable[[], T]) -> T:
    """The value of a function that rank 0 alone calls under torchrun, in every process."""
    return World().on_main(function)

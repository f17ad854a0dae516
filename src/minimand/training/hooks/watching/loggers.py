"""Callbacks that write a training down elsewhere: as a table of CSV, or for TensorBoard (extra `logging`)."""

import csv
from pathlib import Path
from typing import Any

from ...._support.errors import MinimandError
from ...._support.extras import require
from ...loop.events import EpochDone, Event, Finished, Started, StepDone, Stopped


class CSVLogger:
    """A callback that appends a line for each epoch to a CSV file, numbers only: `callbacks=[mm.CSVLogger("log.csv")]`.

    A training that goes on after a stop appends to the same file; the columns are those of its first line.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            raise MinimandError(f"path is {str(path)!r}; expected a file in a folder that exists.")
        self._columns: list[str] = []

    def __call__(self, event: Event) -> None:
        match event:
            case Started(done=done):
                self._begin(is_new=done == 0)
            case EpochDone(metrics=metrics):
                self._append(_numbers(metrics))

    def _begin(self, is_new: bool) -> None:
        self._columns = []
        if is_new:
            self.path.unlink(missing_ok=True)
        elif self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                self._columns = next(csv.reader(file), [])

    def _append(self, record: dict[str, float]) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            if not self._columns:
                self._columns = list(record)
                csv.writer(file).writerow(self._columns)
            csv.writer(file).writerow([record.get(name, "") for name in self._columns])


class TensorBoardLogger:
    """A callback that writes losses, rates and metrics for TensorBoard (extra `logging`) into a folder.

    `callbacks=[mm.TensorBoardLogger("runs/board")]`, then `tensorboard --logdir runs/board`.
    """

    def __init__(self, folder: str | Path, every_steps: int = 10) -> None:
        """Every `every_steps` steps the loss and the learning rate are written, and all metrics after each epoch.

        Raises:
            MissingPackageError: TensorBoard is not installed.
        """
        require("tensorboard", "logging", "to write for TensorBoard")
        if isinstance(every_steps, bool) or not isinstance(every_steps, int) or every_steps < 1:
            raise MinimandError(f"every_steps is {every_steps!r}; expected an integer of at least 1.")
        self.folder, self.every_steps = Path(folder), every_steps
        self._board: Any = None
        self._step = 0

    def __call__(self, event: Event) -> None:
        match event:
            case Started(done=done):
                from torch.utils.tensorboard import SummaryWriter

                self._step = done
                # What a killed training wrote after its last checkpoint is hidden.
                self._board = SummaryWriter(str(self.folder), purge_step=done + 1 if done else None)
            case StepDone(step=step):
                self._step = step
                if step % self.every_steps == 0:
                    self._write({"loss": event.loss, "learning_rate": event.learning_rate}, "step")
            case EpochDone(metrics=metrics):
                self._write(_numbers(metrics), "epoch")
            case Finished() | Stopped() if self._board is not None:
                self._board.close()

    def _write(self, values: dict[str, float], group: str) -> None:
        for name, value in values.items():
            self._board.add_scalar(f"{group}/{name}", value, self._step)


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {
        name: value for name, value in metrics.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }

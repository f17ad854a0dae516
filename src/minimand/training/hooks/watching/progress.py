"""Progress as a person wants to see it: a bar on a terminal or in a notebook, plain lines elsewhere."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ...loop.events import Callback, EpochDone, Event, Finished, Started, StepDone, Stopped, Warned


class ShowProgress:
    """A callback that shows a run as it goes: a line an epoch if asked, and a bar on a terminal or in a notebook.

    It writes to `console`, by default standard error.
    """

    def __init__(self, console: Console | None = None, label: str = "", every_epoch: bool = True) -> None:
        self.console = console or Console(stderr=True)
        self.every_epoch = every_epoch
        self.label = f"{label}  " if label else ""
        self.progress: Progress | None = None
        self.epochs = 0

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self._start(event)
            case StepDone() if self.progress is not None:
                text = f"epoch {event.epoch + 1}/{self.epochs}  loss {event.loss:.4f}"
                self.progress.update(self.task, completed=event.step, description=self.label + text)
            case EpochDone() if self.every_epoch:
                self._say(f"{self.label}epoch {event.epoch + 1}/{self.epochs}  {describe(event.metrics)}")
            case Warned(message):
                self._say(f"{self.label}note: {message}")
            case Finished() | Stopped():
                self.close()

    def _start(self, event: Started) -> None:
        self.epochs = event.epochs
        if event.done == event.steps:
            self._say(f"{self.label}was finished before: nothing is left to do")
        elif event.done:
            self._say(f"{self.label}going on at step {event.done} of {event.steps}")
        if (self.console.is_terminal or self.console.is_jupyter) and event.done < event.steps:
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self.progress = Progress(*columns, console=self.console, transient=True)
            self.progress.start()
            self.task = self.progress.add_task(self.label + "starting", total=event.steps, completed=event.done)

    def _say(self, text: str) -> None:
        (self.progress.console if self.progress else self.console).print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Take the bar away, also after an error."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


def with_progress(
    callbacks: Iterable[Callback], progress: bool, label: str = "", console: Console | None = None
) -> tuple[Callback, ...]:
    """The callbacks, and one that shows progress unless there is one already; of the trials of a search only a bar."""
    callbacks = tuple(callbacks)
    if not progress or any(isinstance(callback, ShowProgress) for callback in callbacks):
        return callbacks
    return (*callbacks, ShowProgress(console, label, every_epoch=not label.startswith("trial ")))


def describe(metrics: dict[str, Any]) -> str:
    """A line of the history in words."""
    text = f"block {metrics['problem']}, " if "problem" in metrics else ""
    text += f"train loss {metrics['train_loss']:.4f}"
    if metrics["test_loss"] is not None:
        text += f", test loss {metrics['test_loss']:.4f}"
    if metrics.get("test_accuracy") is not None:
        text += f", test accuracy {100 * metrics['test_accuracy']:.2f} %"
    if metrics.get("bits_per_byte") is not None:
        text += f", {metrics['bits_per_byte']:.3f} bits a byte"
    if "tokens_per_second" in metrics:
        text += f", {metrics['tokens_per_second']:,} tokens/s"
    return f"{text}, {metrics['seconds']:.0f} s"

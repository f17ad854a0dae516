"""Ctrl-C and termination wait for the end of a step, so that what is saved is whole."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# A Ctrl-C reaches a process from the terminal and again from the torchrun that started it.
_SAME = 1.0


class Interrupts:
    """Whether somebody asked a training to stop, by Ctrl-C or SIGTERM."""

    asked = False
    since = 0.0

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self.since > _SAME:  # a second time: at once, without saving
            raise KeyboardInterrupt
        self.asked, self.since = True, time.monotonic()


@contextmanager
def deferred_interrupts() -> Iterator[Interrupts]:
    """Turn the first SIGINT or SIGTERM within into a request; outside the main thread signals are left alone."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {number: signal.signal(number, interrupts._ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

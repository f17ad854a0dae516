"""Where time goes: parts of the work name themselves, and a clock, where one runs, adds up the seconds of each."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Clock:
    """The seconds of each part of a work, of which one runs at a time: together they are all that passed.

    `synchronize` waits for a device, so that what it is given to do counts where it was asked for.
    """

    def __init__(self, synchronize: Callable[[], object] = lambda: None) -> None:
        self.seconds: dict[str, float] = {}
        """Seconds by part; `other` is what no part claims."""
        self._synchronize, self._part = synchronize, "other"
        self._since = time.perf_counter()

    def switch(self, part: str) -> str:
        """Let another part run from now on; returns the one that ran until now."""
        self._synchronize()
        before, now = self._part, time.perf_counter()
        self.seconds[before] = self.seconds.get(before, 0.0) + now - self._since
        self._part, self._since = part, now
        return before

    @contextmanager
    def running(self) -> Iterator[None]:
        """A context in which parts are counted by this clock."""
        self._part, token = "other", _CLOCK.set(self)
        self._since = time.perf_counter()
        try:
            yield
        finally:
            self.switch("other")
            _CLOCK.reset(token)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A context whose time counts for a part, but for what other parts within claim."""
        before = self.switch(name)
        try:
            yield
        finally:
            self.switch(before)


_CLOCK: ContextVar[Clock | None] = ContextVar("clock", default=None)


def timing(name: str) -> AbstractContextManager[None]:
    """A context whose time counts for a part, where a clock runs; it costs nothing where none does."""
    clock = _CLOCK.get()
    return nullcontext() if clock is None else clock.part(name)


def timed(name: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """A decorator: the time of a function counts for a part, where a clock runs."""

    def decorated(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(function)
        def counted(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if _CLOCK.get() is None:
                return function(*args, **kwargs)
            with timing(name):
                return function(*args, **kwargs)

        return counted

    return decorated

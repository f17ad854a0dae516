"""Contestants that take turns in one process."""

import random
import statistics
import time
from collections.abc import Callable

Run = Callable[[], object]


def race(runs: dict[str, Run], rounds: int, threads: int) -> dict[str, float]:
    """Median seconds of each, in a new order each round, after a call that is not timed.

    One thread is measured by the processor's time, which other work on the machine does not count into.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name in random.sample(list(runs), len(runs)):
            runs[name]()
            began = clock()
            runs[name]()
            seconds[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}

"""What the benchmarks share: contestants that take turns in one process, the clock, and the line about the machine."""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import torch

from minimand._support.torch.environment import environment

Run = Callable[[], object]
T = TypeVar("T")
CPU = torch.device("cpu")


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """A command line with the options of every benchmark that takes turns."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--rounds", type=int, default=rounds)
    options.add_argument("--threads", type=int, default=1, help="1 gives the steadiest times, those of the processor")
    return options


def in_modes(
    description: str | None,
    contest: Literal["model", "size"],
    names: Sequence[str],
    batch: int,
    measure: Callable[[str, int, int, torch.device, bool], None],
    choices: Sequence[str] | None = None,
) -> None:
    """Measure each name that the command line has for `contest`, eager, compiled or both.

    `measure` takes a name, the batch size, the number of rounds, the device and whether networks are compiled.
    """
    command = parser(description, rounds=20)
    command.add_argument(f"--{contest}", nargs="+", choices=choices, default=list(names))
    command.add_argument("--batch", type=int, default=batch)
    command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    command.add_argument("--mode", choices=("eager", "compiled", "both"), default="both")
    options = command.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    print(machine(device))
    for compiled in {"eager": [False], "compiled": [True], "both": [False, True]}[options.mode]:
        for name in getattr(options, contest):
            measure(name, options.batch, options.rounds, device, compiled)


def machine(device: torch.device = CPU) -> str:
    """The date, the hardware and the versions, for the first line that a benchmark prints."""
    facts = environment(device)
    return f"{facts['date']}, {facts['hardware']}, torch {facts['torch']}, Python {sys.version.split()[0]}"


def now(device: torch.device = CPU) -> float:
    """Seconds of the processor, which other work on the machine does not count into; on a GPU seconds that pass."""
    if device.type == "cpu":
        return time.process_time()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(run: Run, device: torch.device = CPU) -> float:
    """The seconds that one call takes."""
    began = now(device)
    run()
    return now(device) - began


def in_turns(measures: Mapping[str, Callable[[], T]], rounds: int, warmup: int = 3) -> dict[str, list[T]]:
    """The results of each measure, which take turns, by round; those of the first `warmup` rounds do not count."""
    results: dict[str, list[T]] = {name: [] for name in measures}
    for i in range(warmup + rounds):
        for name, measure in measures.items():
            result = measure()
            if i >= warmup:
                results[name].append(result)
    return results


def print_ratios(results: Mapping[str, list[float]], columns: Mapping[str, Mapping[str, float]] | None = None) -> None:
    """Print the median milliseconds of each contestant, and its ratio to the first one, round by round."""
    columns = columns or {}
    baseline = next(iter(results.values()))
    print(f"{'network':26}{'ms':>9}{'ratio':>8}{'25 %':>8}{'75 %':>8}" + "".join(f"{name:>9}" for name in columns))
    for label, values in results.items():
        ratios = [a / b for a, b in zip(values, baseline, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        cells = "".join(f"{column[label]:9.1f}" for column in columns.values())
        print(f"{label:26}{1e3 * statistics.median(values):9.2f}{middle:8.3f}{low:8.3f}{high:8.3f}{cells}")


def race(runs: Mapping[str, Run], rounds: int, threads: int) -> dict[str, float]:
    """Median seconds of each, in a new order each round, after a call that is not timed.

    One thread is measured by the processor's time, which other work on the machine does not count into.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    results: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name in random.sample(list(runs), len(runs)):
            runs[name]()
            began = clock()
            runs[name]()
            results[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in results.items()}

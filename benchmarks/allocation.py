"""What a training gains where the C library keeps freed memory, as it does under `minimand train`, and what it takes.

Processes in turns, each some steps of `mm.fit` on random images: the CPU time of a step, that of the system in it,
which clears the pages of new memory, and the most memory.
"""

import argparse
import resource
import statistics
import subprocess
import sys
from functools import partial

import torch
from loop import random_images
from turns import in_turns, machine, print_ratios

import minimand as mm
from minimand._support.allocation import keep_freed_memory
from minimand.recipes.recipe import Precision
from minimand.training.loop.events import StepDone

SIZES: dict[str, tuple[int, Precision]] = {"airbench": (512, "bf16"), "preact_resnet20": (128, "fp32")}
"""The batch size and the precision of each network."""
LABELS = {"given back": "", "kept": "--keep"}
"""Who takes turns, and the word of the command line by which a process is one of them."""
_STEPS, _WARMUP = 9, 3


def train(name: str, keep: bool) -> None:
    """Print the CPU seconds of a step in this process, those of the system in it, and its megabytes at the most."""
    torch.set_num_threads(1)
    if keep and not keep_freed_memory():
        sys.exit("this C library has no mallopt, or the environment sets its allocator")
    batch, precision = SIZES[name]
    times: list[tuple[float, float]] = []

    def watch(event: object) -> None:
        if isinstance(event, StepDone):
            usage = resource.getrusage(resource.RUSAGE_SELF)
            times.append((usage.ru_utime + usage.ru_stime, usage.ru_stime))

    recipe = mm.Recipe(epochs=1, batch_size=batch, precision=precision)
    data = random_images(batch * (_STEPS + _WARMUP))
    mm.fit(mm.create_model(name), data, recipe=recipe, callbacks=[watch], progress=False)
    spent = ((last - first) / (_STEPS - 1) for first, last in zip(times[_WARMUP], times[-1], strict=True))
    print(*spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--only", choices=list(SIZES), help="train it in this process, without turns")
    command.add_argument("--keep", action="store_true")
    options = command.parse_args()
    if options.only:
        train(options.only, options.keep)
        return
    print(f"{machine()}; trainings of one thread each, in processes of their own")
    for name, (batch, precision) in SIZES.items():
        measures = {label: partial(in_a_process, name, word) for label, word in LABELS.items()}
        results = in_turns(measures, options.rounds, warmup=0)
        print(f"\n{name}, batch {batch}, {precision}: {options.rounds} rounds")
        medians = {
            label: [statistics.median(column) for column in zip(*values, strict=True)]
            for label, values in results.items()
        }
        columns = {
            "system": {label: 1e3 * system for label, (_, system, _) in medians.items()},
            "MB": {label: megabytes for label, (*_, megabytes) in medians.items()},
        }
        print_ratios({label: [total for total, *_ in values] for label, values in results.items()}, columns)


def in_a_process(name: str, word: str) -> tuple[float, float, float]:
    """The CPU seconds of a step of a process of its own, those of the system in it, and the process's megabytes."""
    words = [sys.executable, __file__, "--only", name, *filter(None, [word])]
    text = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    total, system, megabytes = map(float, text.split())
    return total, system, megabytes


if __name__ == "__main__":
    main()

"""What a training gains where the C library keeps freed memory, as it does under `minimand train`, and what it takes.

Processes in turns, each some steps of `mm.fit` on random images: the CPU time of a step, and the most memory.
"""

import argparse
import resource
import statistics
import subprocess
import sys
from functools import partial

import torch
from loop import random_images
from turns import in_turns, machine, now, print_ratios

import minimand as mm
from minimand._support.allocation import keep_freed_memory
from minimand.recipes.recipe import Precision
from minimand.training.loop.events import StepDone

SIZES: dict[str, tuple[int, Precision]] = {
    "airbench": (512, "bf16"),
    "preact_resnet20": (128, "fp32"),
    "preact_resnet20 bf16": (128, "bf16"),
}
"""The batch size and the precision of each network."""
LABELS = {"given back": "", "kept": "--keep"}
"""Who takes turns, and the word of the command line by which a process is one of them."""
_STEPS, _WARMUP = 12, 3


def train(name: str, keep: bool) -> None:
    """Print the CPU seconds of a step in this process, and its megabytes at the most."""
    torch.set_num_threads(1)
    if keep and not keep_freed_memory():
        sys.exit("this C library has no mallopt, or the environment sets its allocator")
    batch, precision = SIZES[name]
    times: list[float] = []

    def watch(event: object) -> None:
        if isinstance(event, StepDone):
            times.append(now())

    recipe = mm.Recipe(epochs=1, batch_size=batch, precision=precision)
    model = mm.create_model(name.split()[0])
    mm.fit(model, random_images(batch * (_STEPS + _WARMUP)), recipe=recipe, callbacks=[watch], progress=False)
    steps = [after - before for before, after in zip(times[_WARMUP:], times[_WARMUP + 1 :], strict=False)]
    print(statistics.median(steps), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


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
        print(f"\n{name.split()[0]}, batch {batch}, {precision}: {options.rounds} rounds")
        memory = {label: statistics.median(megabytes for _, megabytes in values) for label, values in results.items()}
        print_ratios({label: [s for s, _ in values] for label, values in results.items()}, {"MB": memory})


def in_a_process(name: str, word: str) -> tuple[float, float]:
    """The CPU seconds of a step of a process of its own, and its megabytes."""
    words = [sys.executable, __file__, "--only", name, *filter(None, [word])]
    seconds, megabytes = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return float(seconds), float(megabytes)


if __name__ == "__main__":
    main()

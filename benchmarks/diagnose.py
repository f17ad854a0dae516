"""What `fit(..., diagnose=True)` costs: whole trainings with and without, interleaved; and one diagnosis by itself.

`python benchmarks/diagnose.py --help`.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

import minimand as mm
from minimand._support.environment import environment
from minimand.recipes.recipe import default_recipe

MODELS = {
    "mlp(depth=30) on the digits": ("mlp(width=64, depth=30)", "digits"),
    "preact_resnet20 on the digits": ("preact_resnet20", "digits"),
}


def seconds(run: Callable[[], object]) -> float:
    """Of the processor, for one call."""
    began = time.process_time()
    run()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=220, help="of each training, about")
    parser.add_argument("--threads", type=int, default=1, help="1 gives the steadiest CPU times")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = environment(torch.device("cpu"))
    print(f"{found['date']}, {found['hardware']}, torch {found['torch']}, Python {sys.version.split()[0]}")
    for label, (name, data_name) in MODELS.items():
        data = mm.load_data(data_name)
        epochs = max(1, options.steps * 128 // len(data.train))
        recipe = replace(default_recipe(data, make(name, data), torch.device("cpu")), epochs=epochs, batch_size=128)

        def train(diagnose: bool, name: str = name, data: mm.Data = data, recipe: mm.Recipe = recipe) -> None:
            torch.manual_seed(0)
            mm.fit(make(name, data), data, recipe=recipe, diagnose=diagnose)

        train(True)
        ratios = []
        for _ in range(options.rounds):
            plain, watched = seconds(lambda: train(False)), seconds(lambda: train(True))
            ratios.append(watched / plain)
        model, x = make(name, data), data.prepare(next(iter(data.train.batches(32, 0)))[0])
        once, forward = (middle(partial(call, model, x)) for call in (partial(mm.diagnose, theory=False), run))
        steps = recipe.epochs * data.train.count(128, True)
        print(
            f"{label}, {steps} steps: with / without {statistics.median(ratios):.3f} ({min(ratios):.3f} to "
            f"{max(ratios):.3f}); a diagnosis of 32 samples without theory takes {once / forward:.1f} forward passes"
        )


def run(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A forward pass."""
    return model(x)


def middle(call: Callable[[], object]) -> float:
    """The median seconds of ten calls."""
    return statistics.median(seconds(call) for _ in range(10))


def make(name: str, data: mm.Data) -> torch.nn.Module:
    """A named model for the data."""
    return mm.models.create_for(name, data.shape, data.num_outputs)


if __name__ == "__main__":
    main()

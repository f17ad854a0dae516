"""What `fit(..., diagnose=True)` costs: whole trainings with and without, interleaved; and one diagnosis by itself.

`python benchmarks/diagnose.py --help`.
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from turns import machine, parser, seconds

import minimand as mm
from minimand.recipes.recipe import default_recipe

MODELS = {
    "mlp(depth=30) on the digits": ("mlp(width=64, depth=30)", "digits"),
    "preact_resnet20 on the digits": ("preact_resnet20", "digits"),
}


def main() -> None:
    command = parser(__doc__, rounds=5)
    command.add_argument("--steps", type=int, default=220, help="of each training, about")
    options = command.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    for label, (name, data_name) in MODELS.items():
        data = mm.load_data(data_name)
        epochs = max(1, options.steps * 128 // len(data.train))
        recipe = replace(default_recipe(data, make(name, data)), epochs=epochs, batch_size=128)

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
    """The outputs of a forward pass."""
    return model(x)


def middle(call: Callable[[], object]) -> float:
    """The median seconds of ten calls."""
    return statistics.median(seconds(call) for _ in range(10))


def make(name: str, data: mm.Data) -> torch.nn.Module:
    """A named model for the data."""
    return mm.models.create_for(name, data.shape, data.num_outputs)


if __name__ == "__main__":
    main()

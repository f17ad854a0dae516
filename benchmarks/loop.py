"""What `mm.fit` costs: a step of it against a step of a loop that is written by hand, in turns, evaluation left out.

Both train networks of their own from the same weights, with the same augmentation, optimizer, schedule and precision.
After every step of `fit` a callback makes one of the plain loop. `python benchmarks/loop.py --help` lists what can be
changed; results/ holds committed runs.
"""

import statistics
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from turns import machine, now, parser, print_ratios

import minimand as mm
from minimand.data import Arrays, as_data
from minimand.data.text.windows import Windows
from minimand.models.info import model_info
from minimand.training.loop.events import Event, Started, StepDone

WARMUP = 5  # steps that do not count


class PlainLoop:
    """A training loop as one writes it for a single network."""

    def __init__(self, model: nn.Module, data: mm.Data, recipe: mm.Recipe, device: torch.device) -> None:
        self.model = model.to(device).train()
        convert_conv2d_weight_memory_format(self.model, torch.channels_last)
        train = cast(Arrays, data.train)
        self.images, self.labels = train.inputs.to(device), train.targets.to(device)
        self.mean = torch.tensor(data.mean, device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(data.std, device=device).view(1, -1, 1, 1)
        self.augment, self.recipe, self.device = cast(mm.Augmentation, recipe.augmentation), recipe, device
        decayed = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim < 2]
        sgd = cast(mm.SGD, recipe.optimizer)
        groups = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(
            groups, lr=sgd.lr, momentum=sgd.momentum, nesterov=True, weight_decay=sgd.weight_decay
        )
        self.steps = len(self.images) // recipe.batch_size
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.steps)
        self.total_loss = 0.0
        self.batches = self._batches()

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for rows in torch.randperm(len(self.images), device=self.device).split(self.recipe.batch_size):
                images = self.augment(self.images[rows])
                images = (images.float().div_(255) - self.mean) / self.std
                yield images.contiguous(memory_format=torch.channels_last), self.labels[rows]

    def step(self) -> None:
        """Make one update."""
        images, labels = next(self.batches)
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            loss = F.cross_entropy(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.total_loss += loss.item()


class PlainTextLoop:
    """A training loop as nanoGPT writes it: windows at random places of a token file, AdamW, clipping, a cosine."""

    def __init__(self, model: nn.Module, data: mm.Data, recipe: mm.Recipe, device: torch.device) -> None:
        self.model, self.recipe, self.device = model.to(device).train(), recipe, device
        windows = cast(Windows, data.train)
        self.tokens, self.context = windows.tokens, windows.context
        adamw = cast(mm.AdamW, recipe.optimizer)
        decayed = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=adamw.lr, betas=adamw.betas, weight_decay=adamw.weight_decay)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, len(windows) // recipe.batch_size)
        self.total_loss = 0.0

    def _batch(self) -> tuple[Tensor, Tensor]:
        places = torch.randint(len(self.tokens) - self.context, (self.recipe.batch_size,)).tolist()
        read = [torch.from_numpy(self.tokens[i : i + self.context + 1].astype(np.int64)) for i in places]
        windows = torch.stack(read)
        return windows[:, :-1].to(self.device), windows[:, 1:].to(self.device)

    def step(self) -> None:
        """Make one update."""
        x, y = self._batch()
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            loss = F.cross_entropy(self.model(x).flatten(0, 1), y.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        self.total_loss += loss.item()


class Steps(Protocol):
    """A loop that is advanced by a step at a time."""

    def step(self) -> None: ...


class Turns:
    """A callback of `fit` that makes a step of another loop after each of its own, and times both."""

    def __init__(self, other: Steps, device: torch.device) -> None:
        self.other, self.device = other, device
        self.seconds: dict[str, list[float]] = {"plain loop": [], "mm.fit": []}

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self.seconds["mm.fit"].append(now(self.device) - self.began)
            began = now(self.device)
            self.other.step()
            self.seconds["plain loop"].append(now(self.device) - began)
        if isinstance(event, Started | StepDone):
            self.began = now(self.device)


def random_images(count: int) -> mm.Data:
    """Images of CIFAR-10's shape to train on, and ten of them as a test part."""
    images, labels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8), torch.arange(count) % 10
    return as_data((Arrays(images, labels), Arrays(images[:10], labels[:10])))


def twice(make: Callable[[], nn.Module]) -> list[nn.Module]:
    """Two networks of the same weights."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(make())
    return models


def race(name: str, precision: Any, batch: int, rounds: int, device: torch.device) -> None:
    """Print the median milliseconds of a step of each, and their ratio."""
    if model_info(name.partition("(")[0]).takes_tokens:
        race_text(name, precision, batch, rounds, device)
        return
    data = random_images(batch * (rounds + WARMUP))
    models = twice(lambda: mm.create_model(name, "gradient_descent"))
    recipe = mm.Recipe(
        epochs=1,
        batch_size=batch,
        optimizer=mm.SGD(lr=0.1, momentum=0.9, weight_decay=5e-4),
        augmentation=mm.Augmentation(pad=4, flip=True),
        precision=precision,
    )
    turns = Turns(PlainLoop(models[0], data, recipe, device), device)
    mm.fit(models[1], data, recipe=recipe, device=device, callbacks=[turns], progress=False)
    print(f"\n{name}, batch {batch}, {precision}: {rounds} rounds")
    results = {label: values[WARMUP:] for label, values in turns.seconds.items()}
    print_ratios(results)
    print(f"{batch / statistics.median(results['mm.fit']):,.0f} images a second by mm.fit")


def race_text(name: str, precision: Any, batch: int, rounds: int, device: torch.device) -> None:
    """Do the same for a language model on windows of Python's library, from a memory-mapped file."""
    data = mm.load_data("python_stdlib", windows=batch * (rounds + WARMUP), test_windows=1)
    recipe = mm.recipe("nanogpt", epochs=1, batch_size=batch, precision=precision)
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(mm.create_model(name, num_tokens=data.num_outputs, context=data.shape[0]))
    turns = Turns(PlainTextLoop(models[0], data, recipe, device), device)
    mm.fit(models[1], data, recipe=recipe, device=device, callbacks=[turns], progress=False)
    print(f"\n{name}, batch {batch} of {data.shape[0]} tokens, {precision}: {rounds} rounds")
    results = {label: values[WARMUP:] for label, values in turns.seconds.items()}
    print_ratios(results)
    print(f"{batch * data.shape[0] / statistics.median(results['mm.fit']):,.0f} tokens a second by mm.fit")


def main() -> None:
    command = parser(__doc__, rounds=60)
    command.add_argument("--model", nargs="+", default=["resnet20"])
    command.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    command.add_argument("--batch", type=int, default=128)
    command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = command.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    print(machine(device))
    for name in options.model:
        for precision in options.precision:
            race(name, precision, options.batch, options.rounds, device)


if __name__ == "__main__":
    main()

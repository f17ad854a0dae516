"""Decoupled training where one module is slow: how much a buffer forgives (Belilovsky et al. 2020, a simulation)."""

from itertools import count
from typing import Any, cast

import torch
from torch import Tensor

from ..._support.torch.seeds import derived_seed
from ...experiments import Bench, Cell, Scale, Study, Values, rows
from ...experiments.trained import ACCURACY, images
from ...recipes import Recipe, as_config, from_config
from ...training import Decoupled, evaluate
from ...training.distributed.pipeline import Buffer
from ...training.loop.losses import Loss, as_loss
from ...training.methods.local.decoupled import Group, Part
from .decoupled import DEPTH, network, published_recipe

_SLOW = 1  # the index of the slow module

_Batch = tuple[Any, Tensor]


def _cells(scale: Scale) -> list[Cell]:
    width, epochs, slowdowns, buffers = {
        "smoke": (4, 1, (2.0,), (1,)),
        "cpu": (16, 4, (1.0, 2.0, 5.0), (1, 10)),
        "paper": (128, 50, (1.0, 1.1, 1.2, 1.5, 2.0, 5.0), (1, 5, 50)),
    }[scale]
    settings = {"width": width, **images(scale, 2000), "recipe": as_config(published_recipe(scale, epochs))}
    return [{"slowdown": s, "buffer": b, **settings} for s in slowdowns for b in buffers]


class _Worker:
    """A module with its optimizer and the number of its updates."""

    def __init__(self, part: Part, recipe: Recipe, steps: int) -> None:
        self.part, self.recipe, self.steps, self.updates = part, recipe, steps, 0
        self.optimizer = recipe.optimizer.build(part)

    def train(self, batch: _Batch, loss: Loss) -> _Batch:
        """Make one update, and return the state that the module gave before it, with the targets."""
        x, y = batch
        rate = self.recipe.optimizer.lr * self.recipe.schedule.factor(self.updates / self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        state, outputs, _ = self.part.train()(x)
        loss(outputs, y).backward()
        self.optimizer.step()
        self.updates += 1
        return state.detach(), y


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    recipe = cast(Recipe, from_config(cell["recipe"]))
    model = network(cell["width"], data, seed).to(bench.device)
    plan = Decoupled().plan(model, lambda: data.example(bench.device), data.num_outputs, 1)
    group = cast(Group, plan.problems[0].module)
    steps = recipe.epochs * data.train.count(recipe.batch_size, True)
    workers = [_Worker(part, recipe, steps) for part in group.each]
    buffers = [Buffer[_Batch](cell["buffer"]) for _ in workers[:-1]]
    stream = _endless(data, recipe, seed, bench.device)
    loss = as_loss(None, data)
    # Modules take turns until every buffer is full, of what untrained modules give.
    for _ in range(cell["buffer"]):
        batch = next(stream)
        for worker, buffer in zip(workers, buffers, strict=False):
            with torch.no_grad():
                batch = worker.part.eval().through(batch[0]), batch[1]
            buffer.write(batch)
    chance = torch.ones(DEPTH)
    chance[_SLOW] = 1 / cell["slowdown"]
    generator = torch.Generator().manual_seed(seed)
    while any(worker.updates < steps for worker in workers):
        # Each module stops after `steps` updates, as published.
        left = chance * torch.tensor([float(worker.updates < steps) for worker in workers])
        j = int(torch.multinomial(left, 1, generator=generator))
        batch = next(stream) if j == 0 else cast(_Batch, buffers[j - 1].read())
        answer = workers[j].train(batch, loss)
        if j + 1 < DEPTH:
            buffers[j].write(answer)
    return {"accuracy": evaluate(group, data).accuracy}


def _endless(data: Any, recipe: Recipe, seed: int, device: torch.device) -> Any:
    augment = recipe.augmentation or data.augmentation
    for epoch in count():
        for inputs, targets in data.train.batches(recipe.batch_size, derived_seed(seed, epoch)):
            yield data.prepare(augment(inputs.to(device))), targets.to(device).long()


STUDY = Study(
    "slow_modules",
    "One module is slow: asynchronous decoupled training, simulated",
    "The network of the study `decoupled`, trained in ticks: at each a module is drawn and makes one update on a batch "
    "from the buffer below it, which it then hands on; the second module is drawn less often than the others by the "
    "slowdown. A buffer keeps the last 1 or 10 batches, and of these the newest of the least used is read, as in "
    "`mm.Decoupled(buffer=...)`. Each module makes as many updates and then stops, so that a slow one goes on when "
    "those above it are done. This is a simulation in one process, as the published experiment is; it tells what "
    "staleness costs, not what time it saves. At cpu scale 2,000 images of CIFAR-10, 4 epochs of updates.\n\n"
    "The source has curves; a note on it says that a mismatch of 1.2 is tolerated and that a buffer of one batch costs "
    "little.",
    ("belilovsky2020decoupled",),
    _cells,
    _measure,
    ("slowdown", "buffer"),
    (ACCURACY,),
    published=None,
    figures=rows("Test accuracy", ("slowdown", "buffer"), ACCURACY),
)

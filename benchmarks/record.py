"""What `mm.fit` costs on the record recipe: a step of it against one of a script for airbench94 alone, in turns.

Both train the network `airbench` by the recipe `airbench`, evaluation left out; the script does by hand, and only for
that network, what the recipe asks for. `python benchmarks/record.py --help` lists what can be changed.
"""

import statistics
from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from loop import WARMUP, Turns, random_images, twice
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from turns import machine, parser, print_ratios

import minimand as mm
from minimand.data import Arrays


class Script:
    """The training of airbench94 as one writes it for that network."""

    def __init__(self, model: nn.Module, data: mm.Data, recipe: mm.Recipe, device: torch.device) -> None:
        self.model = model.to(device).train()
        convert_conv2d_weight_memory_format(self.model, torch.channels_last)
        train, self.recipe, self.device = cast(Arrays, data.train), recipe, device
        self.images, self.labels = train.inputs.to(device), train.targets.to(device)
        self.mean = torch.tensor(data.mean, device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(data.std, device=device).view(1, -1, 1, 1)
        mm.initialize(model, "whiten", batch=(self.images[:5000].float() / 255 - self.mean) / self.std)
        next(model.parameters()).requires_grad_(False)
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        sgd = cast(mm.SGD, recipe.optimizer)
        self.scaled = {id(p) for _, p in named[1:] if p.ndim == 1}  # biases of normalizations; the first is the stem's
        groups = [
            {"params": [p for _, p in named if p.ndim > 1], "weight_decay": sgd.weight_decay, "factor": 1.0},
            {"params": [p for _, p in named[:1]], "weight_decay": 0.0, "factor": 1.0},
            {"params": [p for _, p in named if id(p) in self.scaled], "factor": 64.0}
            | {"weight_decay": sgd.weight_decay / 64},
        ]
        self.lr = sgd.lr
        self.optimizer = torch.optim.SGD(groups, lr=self.lr, momentum=sgd.momentum, nesterov=True)
        self.average = {name: value.clone() for name, value in model.state_dict().items()}
        self.flipped = torch.rand(len(self.images), device=device) < 0.5
        self.steps, self.made = len(self.images) // recipe.batch_size, 0
        self.batches = self._batches()

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for rows in torch.randperm(len(self.images), device=self.device).split(self.recipe.batch_size):
                images = self._shifted(self.images[rows])
                images = torch.where(self.flipped[rows, None, None, None], images.flip(-1), images)
                images = (images.float().div_(255) - self.mean) / self.std
                yield images.contiguous(memory_format=torch.channels_last), self.labels[rows]
            self.flipped = ~self.flipped

    def _shifted(self, images: Tensor, by: int = 2) -> Tensor:
        n, _, height, width = images.shape
        padded = F.pad(images, (by,) * 4, mode="reflect")
        rows, columns = torch.randint(2 * by + 1, (2, n), device=self.device)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(n, device=self.device), :, rows, columns]

    @torch.no_grad()
    def _look_ahead(self, progress: float) -> None:
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - 0.95**5 * progress**3)
                value.copy_(self.average[name])

    def step(self) -> None:
        """Make one update."""
        images, labels = next(self.batches)
        progress = self.made / self.steps
        rise = 0.2 + 0.8 * progress / 0.23 if progress < 0.23 else 0.07 + 0.93 * (1 - progress) / 0.77
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * rise * group["factor"]
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            loss = F.cross_entropy(self.model(images), labels, label_smoothing=0.2)
        loss.backward()
        self.optimizer.step()
        self.made += 1
        if self.made % 5 == 0:
            self._look_ahead(self.made / self.steps)
        loss.item()


def main() -> None:
    command = parser(__doc__, rounds=30)
    command.add_argument("--width", type=int, default=64)
    command.add_argument("--batch", type=int, default=1024)
    command.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = command.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    print(machine(device))
    data = random_images(options.batch * (options.rounds + WARMUP))
    models = twice(lambda: mm.create_model("airbench", width=options.width))
    recipe = mm.recipe("airbench", epochs=1, batch_size=options.batch, precision=options.precision)
    turns = Turns(Script(models[0], data, recipe, device), device)
    mm.fit(models[1], data, recipe=recipe, device=device, callbacks=[turns], progress=False)
    print(f"\nairbench, width {options.width}, batch {options.batch}, {options.precision}: {options.rounds} rounds")
    results = {label: values[WARMUP:] for label, values in turns.seconds.items()}
    print_ratios(results)
    print(f"{options.batch / statistics.median(results['mm.fit']):,.0f} images a second by mm.fit")


if __name__ == "__main__":
    main()

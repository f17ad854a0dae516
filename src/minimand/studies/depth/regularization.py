"""What dropout, weight decay, adversarial training and unsupervised pre-training do to the depth that trains."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.data import Data
from ...data.samples import Arrays
from ...experiments.bench import Bench
from ...experiments.panels import draw_sweep
from ...experiments.study import Cell, Column, Scale, Study, register
from ...experiments.trained import best_of_rates, few, few_steps, kept, plain_network
from ...recipes.recipe import Recipe
from ...trainability.initialization.initialize import initialize
from ...trainability.mean_field.meanfield import correlation_map, critical_point, depth_scales
from ...training.loop.losses import Loss
from ...training.methods.method import Method, chain_rule
from .trainable_depth import REACH

_PLAIN: dict[str, Any] = {"dropout": 0.0, "weight_decay": 0.0, "attack": 0.0, "pretrained": False, "scheme": "critical"}
_TREATMENTS: dict[str, dict[str, Any]] = {
    "none": {},
    "dropout 0.05": {"dropout": 0.05},
    "dropout 0.2": {"dropout": 0.2},
    "weight decay 0.1": {"weight_decay": 0.1},
    "FGSM 0.2": {"attack": 0.2},
    "Xavier": {"scheme": "xavier"},
    "Xavier, pre-trained": {"scheme": "xavier", "pretrained": True},
}
_RATES = (1e-3, 5e-3, 2e-2)
_ATTACK = 0.2
_ACCURACY = Column("accuracy", "test accuracy %", 1, 100)


def _cells(scale: Scale) -> list[Cell]:
    depths, width, steps = {
        "smoke": ((4,), 10, 2),
        "cpu": ((5, 10, 20, 40), 100, 125),
        "paper": ((10, 30, 100, 300), 300, 2000),
    }[scale]
    batch = 32 if scale == "smoke" else 64
    return [
        {"treatment": name, "depth": depth, "width": width, **few(scale, steps, batch), **_PLAIN, **treatment}
        | {"rates": list(_RATES[:1] if scale == "smoke" else _RATES), "activation": "tanh"}
        | {"recipe": kept(_with_decay(batch, treatment.get("weight_decay", 0.0)))}
        for name, treatment in _TREATMENTS.items()
        for depth in depths
    ]


def _with_decay(batch: int, weight_decay: float) -> Recipe:
    recipe = few_steps(_RATES[0], batch)
    return replace(recipe, optimizer=replace(recipe.optimizer, weight_decay=weight_decay))


@dataclass(frozen=True)
class _FastGradientSign(Method):
    """Backpropagation on images moved by `size` in the direction that raises the loss (Goodfellow et al. 2015)."""

    size: float
    references: ClassVar = ("goodfellow2015explaining",)

    def backward(self, model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        return chain_rule(model, attacked(model, x, y, self.size, loss), y, loss)


def attacked(model: nn.Module, x: Tensor, y: Tensor, size: float, loss: Loss = F.cross_entropy) -> Tensor:
    """x + size sign(gradient of the loss by x)."""
    x = x.detach().requires_grad_()
    return (x + size * torch.autograd.grad(loss(model(x), y), x)[0].sign()).detach()


def _measure(cell: Cell, seed: int, bench: Bench) -> dict[str, Any]:
    data = bench.data(cell["data"], cell["train"], cell["test"])
    method = _FastGradientSign(cell["attack"]) if cell["attack"] else None
    found, model = best_of_rates(lambda: _network(cell, seed, data), data, cell, seed, bench, method)
    reach = _reach(cell)
    found["reach"] = f"{reach:.0f}" if math.isfinite(reach) else "no bound"
    if model is None:
        return found
    test = cast(Arrays, data.test).to(bench.device)
    x, y = data.prepare(test.inputs), test.targets.long()
    model.eval()
    right = model(attacked(model, x, y, _ATTACK)).argmax(1) == y
    return found | {"attacked": float(right.float().mean())}


def _reach(cell: Cell) -> float:
    """So many times the shorter depth scale, of angles or of gradients, of the weights and the dropout at the start.

    Dropout that keeps a share k acts on lengths like weights larger by 1 / sqrt(k), but what two inputs have in common
    passes at k times the size, so that even equal inputs part (after Schoenholz et al. 2017).
    """
    keep = 1 - cell["dropout"]
    if keep == 1:
        return math.inf  # both schemes are on the edge of chaos
    point = critical_point(nn.Tanh, depth=cell["depth"])
    sigma_w, sigma_b = point.sigma_w / math.sqrt(keep), point.sigma_b
    scales = depth_scales(nn.Tanh, sigma_w, sigma_b)

    def following(c: float) -> float:
        return keep * correlation_map(nn.Tanh, c, scales.q, sigma_w, sigma_b) + (1 - keep) * sigma_b**2 / scales.q

    c = 1.0
    for _ in range(200):
        c = following(c)
    step = (1 - c) / 10
    slope = (following(c + step) - following(c - step)) / (2 * step)
    return REACH * min(-1 / math.log(slope), abs(scales.xi_grad))


def _network(cell: Cell, seed: int, data: Data) -> nn.Module:
    torch.manual_seed(seed)
    model = plain_network(cell["width"], cell["depth"], nn.Tanh, data)
    images = data.prepare(cast(Arrays, data.train).inputs)
    initialize(model, cell["scheme"], batch=images[:64])
    if cell["pretrained"]:
        pretrain(model, images)
    if not cell["dropout"]:
        return model
    dropped = [(m, nn.Dropout(cell["dropout"])) if isinstance(m, nn.Tanh) else (m,) for m in model]
    return nn.Sequential(*(module for pair in dropped for module in pair))


def pretrain(model: nn.Sequential, images: Tensor, rate: float = 1e-3, batch: int = 64) -> None:
    """Each hidden layer in turn learns to keep what a linear map restores its input from, in one pass over the images.

    Args:
        model: `plain_network`, in place; its last layer stays.
        images: (N, ...) without labels.
        rate: of Adam.
        batch: images in a step.
    """
    x = model[0](images)
    for linear, activation in list(pairwise(model))[1:-1:2]:
        linear = cast(nn.Linear, linear)
        restore = nn.Linear(linear.out_features, linear.in_features).to(x)
        optimizer = torch.optim.Adam([*linear.parameters(), *restore.parameters()], lr=rate)
        for part in x.split(batch):
            optimizer.zero_grad()
            F.mse_loss(restore(activation(linear(part))), part).backward()
            optimizer.step()
        with torch.no_grad():
            x = activation(linear(x))


register(
    Study(
        "regularization",
        "What dropout, weight decay, adversarial training and pre-training do to the depth that trains",
        "Plain tanh networks of 100 units on the images of Fashion-MNIST as vectors, at the edge of chaos with "
        "orthogonal weights but where Xavier's stand: 125 steps of SGD with Nesterov momentum 0.9 and batches of 64 "
        "at a constant rate, of three the best. One thing is added at a time: dropout after every activation; decay "
        "of the weights; training on images moved by 0.2 (of their standard deviation) by the fast gradient sign "
        "method; or greedy pre-training of each layer as an autoencoder on the same images without labels, once "
        "through, from Xavier's weights, beside the same without it. Accuracy on 2,000 test images, and on the "
        "same images moved by 0.2 against the network that is tested.\n\n"
        f"Schoenholz et al. 2017 show that dropout removes the critical point, so that no weights reach any depth; "
        f"they give no table. How deep dropout lets these weights be stands beside: {REACH} depth scales of its "
        "correlation map, as in the study of trainable depth. Nothing else is published that could stand beside it.",
        ("schoenholz2017deep", "goodfellow2015explaining", "bengio2006greedy"),
        _cells,
        _measure,
        ("treatment", "depth"),
        (
            _ACCURACY,
            Column("attacked", "under attack %", 1, 100),
            Column("rate", "learning rate"),
            Column("reach", f"{REACH} depth scales"),
        ),
        published=None,
        figures=lambda measurements: {
            "Test accuracy against depth: mean and range over seeds": draw_sweep(
                measurements, _ACCURACY, "activation", line="treatment"
            )
        },
    )
)

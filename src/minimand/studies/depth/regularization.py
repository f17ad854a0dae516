"""What dropout, weight decay, adversarial training and unsupervised pre-training do to the depth that trains."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import Arrays, Data
from ...experiments import Bench, Cell, Column, Scale, Study, Values, sweep
from ...experiments.trained import ACCURACY, best_of_rates, first_batch, images_for_steps, one_epoch, plain_network
from ...recipes import as_config
from ...trainability import initialize
from ...trainability.mean_field import correlation_map, critical_point, depth_scales
from ...training import Method
from ...training.loop.losses import Loss
from ...training.methods.method import chain_rule
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


def _cells(scale: Scale) -> list[Cell]:
    depths, width, steps = {
        "smoke": ((4,), 10, 2),
        "cpu": ((5, 10, 20, 40), 100, 125),
        "paper": ((10, 30, 100, 300), 300, 2000),
    }[scale]
    batch = 32 if scale == "smoke" else 64
    return [
        {"treatment": name, "depth": depth, "width": width, **_PLAIN, **treatment}
        | images_for_steps(scale, steps, batch)
        | {"rates": list(_RATES[:1] if scale == "smoke" else _RATES), "activation": "tanh"}
        | {"recipe": as_config(one_epoch(_RATES[0], batch, treatment.get("weight_decay", 0.0)))}
        for name, treatment in _TREATMENTS.items()
        for depth in depths
    ]


@dataclass(frozen=True)
class _FastGradientSign(Method):
    """Backpropagation on images moved by `size` in the direction that raises the loss (Goodfellow et al. 2015)."""

    size: float
    references: ClassVar = ("goodfellow2015explaining",)

    def backward(self, model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        return chain_rule(model, attacked(model, x, y, self.size, loss), y, loss)


def attacked(model: nn.Module, x: Tensor, y: Tensor, size: float, loss: Loss = F.cross_entropy) -> Tensor:
    """Inputs moved by the fast gradient sign method: x + size sign(gradient of the loss by x)."""
    x = x.detach().requires_grad_()
    return (x + size * torch.autograd.grad(loss(model(x), y), x)[0].sign()).detach()


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    method = _FastGradientSign(cell["attack"]) if cell["attack"] else None
    values, model = best_of_rates(lambda: _network(cell, seed, data), data, cell, seed, bench, method)
    reach = _reach(cell)
    values["reach"] = f"{reach:.0f}" if math.isfinite(reach) else "no bound"
    if model is None:
        return values
    test = cast(Arrays, data.test).to(bench.device)
    x, y = data.prepare(test.inputs), test.targets.long()
    model.eval()
    right = model(attacked(model, x, y, _ATTACK)).argmax(1) == y
    return values | {"attacked": float(right.float().mean())}


def _reach(cell: Cell) -> float:
    """`REACH` times the shorter depth scale, of angles or of gradients, of the weights and the dropout at the start.

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
    initialize(model, cell["scheme"], batch=first_batch(data)[0])
    if cell["pretrained"]:
        pretrain(model, data.prepare(cast(Arrays, data.train).inputs))
    if not cell["dropout"]:
        return model
    layers: list[nn.Module] = []
    for module in model:
        layers += [module, nn.Dropout(cell["dropout"])] if isinstance(module, nn.Tanh) else [module]
    return nn.Sequential(*layers)


def pretrain(model: nn.Sequential, images: Tensor, rate: float = 1e-3, batch: int = 64) -> None:
    """Train each hidden layer of a plain network in turn as an autoencoder with a linear decoder, by Adam.

    In one pass over the images (N, ...), without labels; the last layer stays.
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


STUDY = Study(
    "regularization",
    "What dropout, weight decay, adversarial training and pre-training do to the depth that trains",
    "Plain tanh networks of 100 units on the images of Fashion-MNIST as vectors, at the edge of chaos with orthogonal "
    "weights but where Xavier's stand: 125 steps of SGD with Nesterov momentum 0.9 and batches of 64 at a constant "
    "rate, of three the best. One thing is added at a time: dropout after every activation; decay of the weights; "
    "training on images moved by 0.2 (of their standard deviation) by the fast gradient sign method; or greedy "
    "pre-training of each layer as an autoencoder on the same images without labels, once through, from Xavier's "
    "weights, beside the same without it. Accuracy on 2,000 test images, and on the same images moved by 0.2 against "
    "the network that is tested.\n\n"
    "Schoenholz et al. 2017 show that dropout removes the critical point, so that no weights reach any depth; they "
    f"give no table. How deep dropout lets these weights be stands beside: {REACH} depth scales of its correlation "
    "map, as in the study of trainable depth. Nothing else is published that could stand beside it.",
    ("schoenholz2017deep", "goodfellow2015explaining", "bengio2006greedy"),
    _cells,
    _measure,
    ("treatment", "depth"),
    (
        ACCURACY,
        Column("attacked", "under attack %", 1, 100),
        Column("rate", "learning rate"),
        Column("reach", f"{REACH} depth scales"),
    ),
    published=None,
    figures=sweep("Test accuracy against depth", ACCURACY, "activation", line="treatment"),
)

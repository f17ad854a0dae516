"""What a skeleton costs: a training step of an unrolled network against the same blocks wired as a ResNet.

Networks take turns, step by step, in one process; a second gradient-descent network is the control that tells the
noise. `python benchmarks/skeleton.py --help` lists what can be changed; results/ holds committed runs.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from turns import in_modes, in_turns, print_ratios, seconds

import minimand as mm
from minimand.models.network import UnrolledNetwork
from minimand.models.stages import Bridge
from minimand.networks.unrolled import Unrolled, UnrolledLayer


class Wired(nn.Module):
    """The blocks of a model wired by hand: x + T(x) under the residual binding, T(x) under the operator binding."""

    def __init__(self, model: UnrolledNetwork) -> None:
        super().__init__()
        self.model = model
        self.residual = model.binding == "residual"

    def forward(self, x: Tensor) -> Tensor:
        x = self.model.stem.module(x)
        for part in self.model.body:
            if isinstance(part, Unrolled):
                for layer in part.layers:
                    answer = cast(UnrolledLayer, layer).block(x)
                    x = x + answer if self.residual else answer
            else:
                x = cast(Bridge, part).module(x)
        return self.model.head.module(x)


class AsWritten(nn.Module):
    """A model run layer by layer, as its algorithm is written."""

    def __init__(self, model: UnrolledNetwork) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        state = self.model.stem(x)
        for layer in self.model.layers:
            state = layer(state)
        return self.model.head(state)


def contestants(name: str) -> dict[str, Callable[[], nn.Module]]:
    """Makers of the networks, all with the same blocks and the same first weights."""

    def make(algorithm: str) -> UnrolledNetwork:
        torch.manual_seed(0)
        return mm.create_model(name, algorithm)

    return {
        "wired by hand": lambda: Wired(make("gradient_descent")),
        "wired by hand, again": lambda: Wired(make("gradient_descent")),
        "gradient_descent": lambda: make("gradient_descent"),
        "heavy_ball": lambda: make("heavy_ball(momentum=0.9)"),
        "nesterov": lambda: make("nesterov(momentum=0.9)"),
        "nesterov_y": lambda: make("nesterov_y(momentum=0.9)"),
        "heavy_ball, learnable": lambda: make("heavy_ball(momentum=Learnable(0.9, 0, 1))"),
        "heavy_ball, as written": lambda: AsWritten(make("heavy_ball(momentum=0.9)")),
    }


def measure(name: str, batch: int, rounds: int, device: torch.device, compiled: bool) -> None:
    """Print what the skeletons of a model cost."""
    networks = {label: make() for label, make in contestants(name).items()}
    x = torch.randn(batch, 3, 32, 32)
    print(f"\n{name}, batch {batch}, {'compiled' if compiled else 'eager'}: {rounds} rounds")
    compare(networks, x, torch.randint(10, (batch,)), rounds, device, compiled)


def compare(
    networks: dict[str, nn.Module], x: Tensor, y: Tensor, rounds: int, device: torch.device, compiled: bool
) -> None:
    """Print the median ratio of each network's step to the first one's of the same round."""
    torch.compiler.reset()  # past a number of networks of one class torch would compile no more
    running: dict[str, nn.Module] = {}
    for label, network in networks.items():
        network = network.to(device)
        convert_conv2d_weight_memory_format(network, torch.channels_last)
        running[label] = mm.compiled(network, fullgraph=True) if compiled else network
    x, y = x.to(device), y.to(device)
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    for label, network in running.items():  # not another's graph
        torch.testing.assert_close(network(x), networks[label](x), rtol=1e-2, atol=1e-2)
    print_ratios(in_turns({label: partial(step, network, x, y, device) for label, network in running.items()}, rounds))


def step(network: nn.Module, x: Tensor, y: Tensor, device: torch.device) -> float:
    """The seconds of one forward and backward pass."""
    network.zero_grad()
    return seconds(lambda: F.cross_entropy(network(x), y).backward(), device)


if __name__ == "__main__":
    in_modes(__doc__, "model", ["preact_resnet20", "preact_resnet56", "resnet20"], 64, measure)

"""What training in the memory of a few layers costs: networks that run backwards, beside themselves stored.

Activation memory is what tensors hold at the peak of a step, without parameters and their gradients, each measured in
a process of its own, with the process' own peak beside it. Times take turns in one process. The figures to hold: 500
layers on images of CIFAR-10's size, and a GPT of 96 layers and 128 channels, within 10 % of the memory of 10 layers; at
most 1.5 of the time of stored training; less of both than momentumnet (`pip install --no-deps momentumnet`).
"""

import multiprocessing
import resource
import statistics
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from turns import in_turns, machine, parser, print_ratios, seconds

import minimand as mm
from minimand.blocks.convolutional import pre_activation
from minimand.report import peak_bytes

# Leapfrog is heavy ball of momentum -1: it runs back in floating point where rounding allows it. Momentum 0.9 does not.
# The depth rule divides the branches of 250 blocks; without it (unscaled) their sum is too much for floating point.
MADE: dict[str, Callable[[int, dict[str, Any]], nn.Module]] = {
    "CIFAR-10": lambda depth, memory: mm.create_model(
        "preact_resnet20", "leapfrog", depth=depth, parametrization="complete_p", **memory
    ),
    "CIFAR-10, unscaled": lambda depth, memory: mm.create_model("preact_resnet20", "leapfrog", depth=depth, **memory),
    "CIFAR-10, exact": lambda depth, memory: mm.create_model(
        "preact_resnet20", "heavy_ball(momentum=0.9)", depth=depth, **memory
    ),
    "gpt": lambda depth, memory: mm.create_model("gpt_nano", "leapfrog", depth=depth, width=128, **memory),
    "gpt, exact": lambda depth, memory: mm.create_model(
        "gpt_nano", "heavy_ball(momentum=0.9)", depth=depth, width=128, **memory
    ),
}
DEEP = {name: 250 if name.startswith("CIFAR") else 96 for name in MADE}  # blocks; of CIFAR-10's two layers each
SHALLOW = {name: 5 if name.startswith("CIFAR") else 10 for name in MADE}
WAYS: dict[str, dict[str, Any]] = {"stored": {}, "checkpointed": {"memory": "checkpoint"}}


def ways(name: str) -> dict[str, dict[str, Any]]:
    """What is kept, by label."""
    return {**WAYS, "reversible": {"memory": "reversible", "exact": True if name.endswith("exact") else None}}


def step_of(model: nn.Module, x: Tensor) -> Callable[[], None]:
    """A forward and a backward pass."""

    def step() -> None:
        model(x).float().square().mean().backward()

    return step


def drop(parameter: Tensor) -> None:
    """Let a gradient go as soon as it is there."""
    parameter.grad = None


def peak(name: str, label: str, depth: int, batch: int) -> tuple[float, float]:
    """MB of tensors at the peak of a step, and of the process beyond what it held before the first one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model: Any = MADE[name](depth, ways(name)[label]).train()
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(drop)
    step = step_of(model, model.noise(batch))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    process = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return peak_bytes(step, model) / 1e6, process / 1e6


def print_memory(name: str, batch: int) -> None:
    """Print the peaks of a shallow and of the deep network."""
    context = multiprocessing.get_context("spawn")
    shallow, deep = SHALLOW[name], DEEP[name]
    print(f"\n{name}: MB at the peak of a step, batch of {batch} (of the process in brackets)")
    print(f"{'':16}{f'{shallow} blocks':>20}{f'{deep} blocks':>20}{'ratio':>8}")
    for label in ways(name):
        with context.Pool(1, maxtasksperchild=1) as pool:
            few, many = (pool.apply(peak, (name, label, depth, batch)) for depth in (shallow, deep))
        cells = "".join(f"{f'{tensors:.1f} ({process:.0f})':>20}" for tensors, process in (few, many))
        print(f"{label:16}{cells}{many[0] / few[0]:8.2f}", flush=True)


def print_times(name: str, depth: int, batch: int, rounds: int) -> None:
    """Print the time of a step of each way, in turns."""
    steps = {}
    for label, memory in ways(name).items():
        torch.manual_seed(0)
        model: Any = MADE[name](depth, memory).train()
        steps[label] = step_of(model, model.noise(batch))
    print(f"\n{name}: {depth} blocks, batch of {batch}, {rounds} rounds")
    print_ratios(in_turns({label: lambda s=step: seconds(s) for label, step in steps.items()}, rounds, warmup=1))


def beside_momentumnet(depth: int, batch: int, rounds: int) -> None:
    """Print memory and time of one stage of convolutions, by momentumnet and run backwards, momentum 0.9 and exact."""
    if find_spec("momentumnet") is None:
        print("\nmomentumnet is not installed: pip install --no-deps momentumnet")
        return
    torch.manual_seed(0)
    blocks = [pre_activation(16, 16) for _ in range(depth)]
    theirs = import_module("momentumnet").MomentumNet(blocks, gamma=0.9, use_backprop=False)
    algorithm = "momentum_residual(momentum=0.9)"
    stages = {
        "stored": mm.unroll(algorithm, blocks),
        "momentumnet": theirs,
        "reversible, exact": mm.unroll(algorithm, blocks, memory="reversible", exact=True),
    }
    steps = {label: step_of(stage, torch.randn(batch, 16, 32, 32)) for label, stage in stages.items()}
    print(f"\na stage of {depth} blocks of 16 channels, batch of {batch}, momentum 0.9")
    times = in_turns({label: lambda s=step: seconds(s) for label, step in steps.items()}, rounds, warmup=1)
    for p in theirs.parameters():
        p.register_post_accumulate_grad_hook(drop)
    peaks = {label: peak_bytes(steps[label], stage) / 1e6 for label, stage in stages.items()}
    print_ratios(times, {"MB": peaks})
    ratio = statistics.median(a / b for a, b in zip(times["reversible, exact"], times["momentumnet"], strict=True))
    print(
        f"reversible over momentumnet: time {ratio:.2f}, memory {peaks['reversible, exact'] / peaks['momentumnet']:.2f}"
    )


def main() -> None:
    command = parser(__doc__, rounds=5)
    command.add_argument("--batch", type=int, default=32)
    command.add_argument("--only", choices=[*MADE, "momentumnet"], default=None)
    command.add_argument("--depth", type=int, default=20, help="the blocks of the networks that are timed")
    options = command.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    for name in MADE if options.only is None else [options.only]:
        if name in MADE:
            print_memory(name, options.batch)
            print_times(name, options.depth, options.batch, options.rounds)
    if options.only in (None, "momentumnet"):
        beside_momentumnet(options.depth, options.batch, options.rounds)


if __name__ == "__main__":
    main()

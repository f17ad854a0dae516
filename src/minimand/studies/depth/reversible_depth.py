"""Memory and time of training against depth: stored, checkpointed, run backwards, and momentumnet."""

import statistics
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.style import COLORS, draw_mean_and_range, new_figure, plain
from ...blocks.convolutional import pre_activation
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values
from ...networks import Unrolled, unroll
from ...report import peak_bytes

_WAYS: dict[str, dict[str, Any]] = {
    "stored": {"memory": "store"},
    "checkpointed": {"memory": "checkpoint"},
    "reversible": {"memory": "reversible"},
    "reversible, exact": {"memory": "reversible", "exact": True},
}
_THEIRS = "momentumnet"
_STEPS = 3


def _cells(scale: Scale) -> list[Cell]:
    depths, width, side, batch = {
        "smoke": ((2, 4), 4, 4, 2),
        "cpu": ((8, 16, 32, 64, 128, 256, 512), 16, 16, 8),
        "paper": ((8, 16, 32, 64, 128, 256, 512), 64, 32, 128),
    }[scale]
    settings = {"width": width, "side": side, "batch": batch}
    # Rounding in floating point asks for a momentum near 1; the others are compared at the same one.
    return [
        {"training": training, "depth": depth, "momentum": momentum, **settings}
        for momentum, ways in ((0.99, ("stored", "checkpointed", "reversible")), (0.9, ("reversible, exact", _THEIRS)))
        for training in ways
        for depth in depths
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    torch.manual_seed(seed)
    device = bench.device
    blocks: list[nn.Module] = [pre_activation(cell["width"], cell["width"]) for _ in range(cell["depth"])]
    network = _network(cell, blocks)
    if network is None:
        return {"peak": "-", "step": "-", "ratio": "-", "note": "not installed"}
    network.to(device).train()
    x = torch.randn(cell["batch"], cell["width"], cell["side"], cell["side"], device=device)
    weights = torch.randn_like(x)
    step, stored = _step(network, x, weights), _step(unroll(_algorithm(cell), blocks), x, weights)
    step()
    stored()
    # In turns, as other work on the machine slows both.
    times = [(_seconds(step, device), _seconds(stored, device)) for _ in range(_STEPS)]
    error = network.roundoff if isinstance(network, Unrolled) else None
    return {
        "peak": _peak(network, step),
        "step": statistics.median(own for own, _ in times),
        "ratio": statistics.median(own / reference for own, reference in times),
        "note": "" if error is None else f"{error:.1e}",
    }


def _algorithm(cell: Cell) -> str:
    return f"momentum_residual(momentum={cell['momentum']})"


def _network(cell: Cell, blocks: list[nn.Module]) -> nn.Module | None:
    """The stage of these blocks, or momentumnet's; None where that package is not there."""
    if cell["training"] != _THEIRS:
        return unroll(_algorithm(cell), blocks, **_WAYS[cell["training"]])
    if find_spec(_THEIRS) is None:
        return None
    return import_module(_THEIRS).MomentumNet(blocks, gamma=cell["momentum"], use_backprop=False)


def _step(network: nn.Module, x: Tensor, weights: Tensor) -> Callable[[], None]:
    def step() -> None:
        (network(x) * weights).sum().backward()

    return step


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = clock()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def _peak(network: nn.Module, step: Callable[[], None]) -> int:
    """The most bytes that are there in a step; gradients of parameters go as soon as they are made."""
    hooks = [p.register_post_accumulate_grad_hook(_drop) for p in network.parameters() if p.requires_grad]
    network.zero_grad()
    peak = peak_bytes(step, network)
    for hook in hooks:
        hook.remove()
    return peak


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def _figures(measurements: Measurements) -> FiguresByCaption:
    figure = new_figure(9, 3.4)
    memory, ratio = map(plain, figure.subplots(1, 2))
    for training, color in zip((*_WAYS, _THEIRS), COLORS, strict=False):
        rows = [m for m in measurements if m.cell["training"] == training and m.values["peak"] != "-"]
        depths = sorted({m.cell["depth"] for m in rows})
        of_depth = [[m.values for m in rows if m.cell["depth"] == depth] for depth in depths]
        draw_mean_and_range(memory, depths, [[v["peak"] / 1e6 for v in seeds] for seeds in of_depth], color, training)
        draw_mean_and_range(ratio, depths, [[v["ratio"] for v in seeds] for seeds in of_depth], color)
    memory.set(xlabel="layers", ylabel="peak memory of a step, MB", xscale="log", yscale="log")
    ratio.set(xlabel="layers", ylabel="time over that of stored training", xscale="log", ylim=(0, None))
    if memory.get_lines():
        memory.legend(frameon=False, fontsize=8)
    return {"Peak memory of a training step without parameters, and its time, against depth": figure}


STUDY = Study(
    "reversible_depth",
    "Memory and time against depth of layers that run backwards (after Sander et al. 2021)",
    "A Momentum ResNet stage of pre-activation blocks of 16 channels on 8 images of 16 x 16, forward and backward. The "
    "peak counts every tensor that an operation makes for as long as it is there, parameters and their gradients left "
    "out; time is that of the processor, one step after the other with a stage of the same blocks that stores all, "
    "the median of three ratios. In floating point the momentum is 0.99, and the last column is the measured relative "
    "error of the first state when the stage was run back; where it exceeds 1e-4, here with 512 layers, the stage "
    "keeps its states to the last bit, as it does by default. Where it is told to, the momentum is 0.9, as it is for "
    "momentumnet (`pip install --no-deps momentumnet`), whose rows are empty where it is not installed.",
    ("sander2021momentum", "maclaurin2015reversible"),
    _cells,
    _measure,
    ("training", "depth"),
    (
        Column("peak", "peak, MB", 1, 1e-6),
        Column("step", "s, a step"),
        Column("ratio", "time / stored"),
        Column("note", "error, run back"),
    ),
    None,
    _figures,
)

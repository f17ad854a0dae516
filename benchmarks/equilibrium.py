"""Equilibria against torchdeq (pip install --no-deps torchdeq==0.1.0): evaluations, time and memory of a training step.

Both solve z = block(z, x) in float32 to one relative tolerance, every sample of the batch, and the linear equation of
the exact gradient likewise, with the same solver and at most as many steps. The blocks are a convolutional one, which
ends in a normalization, and a fully connected one, a contraction. An evaluation is a call of the block, or a product
with its Jacobian; one on a part of the batch counts as that part. Times are of the processor, all in turns in one
process; "block" is the time of our evaluations alone, with nothing that solves, below which no solver of so many comes.
Memory is what the peak of a new process rises by from a step on two samples to one on the batch. The first step of
ours, which looks at the block, does not count.
"""

import gc
import importlib.util
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from turns import in_turns, machine, parser, seconds

import minimand as mm

SOLVERS = {"fixed_point": "fixed_point_iter", "anderson": "anderson", "broyden": "broyden"}
TOLERANCES = {"loose": 1e-3, "tight": 1e-5}
STEPS = 40
SAMPLES, CHANNELS, SIDE, WIDTH = 64, 32, 16, 1024


class Counted(torch.autograd.Function):
    """The identity, which counts how often a gradient comes through."""

    @staticmethod
    def forward(ctx: Any, block: Any, z: Tensor) -> Tensor:
        ctx.block = block
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.block.products += len(gradient) / SAMPLES
        return None, gradient


class Block(nn.Module):
    """A block that counts its calls and the products with its Jacobian."""

    calls = products = 0.0

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        self.calls += len(z) / SAMPLES
        return self.next(Counted.apply(self, z) if z.requires_grad else z, x)

    def next(self, z: Tensor, x: Tensor) -> Tensor:
        """The next state."""
        raise TypeError


class Convolutional(Block):
    """GroupNorm(ReLU(z / 2 + conv(ReLU(GroupNorm(conv(z)))) + x)), the shape of the blocks of multiscale equilibria."""

    def __init__(self) -> None:
        super().__init__()
        c = CHANNELS
        first, last = (nn.Conv2d(c, c, 3, padding=1, bias=False) for _ in range(2))
        self.branch = nn.Sequential(first, nn.GroupNorm(4, c), nn.ReLU(), last)
        self.norm = nn.GroupNorm(4, c)

    def next(self, z: Tensor, x: Tensor) -> Tensor:
        return self.norm(torch.relu(0.5 * z + self.branch(z) + x))


class Connected(Block):
    """tanh(W z + x) with |W| = 0.95."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)
        with torch.no_grad():
            self.inner.weight.mul_(0.95 / torch.linalg.matrix_norm(self.inner.weight, 2))

    def next(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.inner(z) + x)


BLOCKS: dict[str, tuple[type[Block], tuple[int, ...]]] = {
    "convolutional": (Convolutional, (CHANNELS, SIDE, SIDE)),
    "connected": (Connected, (WIDTH,)),
}


def step_of(which: str, block: Block, solver: str, tolerance: float) -> Callable[[Tensor], Tensor]:
    """A training step on a batch, which returns the gradient of the input: ours or theirs."""
    if which == "minimand":
        layer = mm.Equilibrium(block, f"{solver}(tolerance={tolerance}, max_steps={STEPS})")
    else:
        from torchdeq import get_deq  # pyright: ignore[reportMissingImports]

        shared = {"f_max_iter": STEPS, "b_max_iter": STEPS, "f_tol": tolerance, "b_tol": tolerance}
        modes = {"f_stop_mode": "rel", "b_stop_mode": "rel", "f_solver": SOLVERS[solver], "b_solver": SOLVERS[solver]}
        theirs = get_deq(ift=True, **shared, **modes)

        def layer(x: Tensor) -> Tensor:
            return theirs(lambda z: block(z, x), torch.zeros_like(x))[0][-1]

    def step(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (layer(x) * weights(x)).mean().backward()
        block.zero_grad()
        assert x.grad is not None
        return x.grad

    return step


def evaluations_of(block: Block, calls: int, products: int) -> Callable[[Tensor], None]:
    """The evaluations of a training step and nothing else: as many calls, the last with a graph, and products."""

    def step(x: Tensor) -> None:
        z, x = torch.zeros_like(x), x.detach().requires_grad_()
        with torch.no_grad():
            for _ in range(calls - 1):
                z = block(z, x)
        z.requires_grad_()
        answer = block(z, x)
        gradient = weights(x) / x.numel()
        for _ in range(products - 1):
            (gradient,) = torch.autograd.grad(answer, z, gradient, retain_graph=True)
        answer.backward(gradient)
        block.zero_grad()

    return step


def weights(x: Tensor) -> Tensor:
    """The gradient of the loss with respect to the output, the same for both."""
    return torch.linspace(-1, 1, x.shape[1]).view(1, -1, *[1] * (x.ndim - 2)).expand_as(x)


def made(name: str, samples: int = SAMPLES) -> tuple[Block, Tensor]:
    """A block and a batch, always the same."""
    torch.manual_seed(0)
    kind, shape = BLOCKS[name]
    return kind(), torch.randn(samples, *shape)


def peak(which: str, name: str, solver: str, tolerance: float) -> float:
    """The MB by which the peak of this process rises with a step on the whole batch."""
    torch.set_num_threads(1)
    block, x = made(name)
    step = step_of(which, block, solver, tolerance)
    step(x[:2])
    gc.collect()
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    step(x)
    return (status("VmHWM") - before) / 1024


def status(name: str) -> int:
    """A number of KB that Linux has of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def compare(name: str, solver: str, tolerance: float, rounds: int) -> None:
    """Print evaluations, milliseconds and memory of both, and the ratios of ours to theirs."""
    contestants = ("torchdeq", "minimand")
    block, x = made(name)
    counts, steps, inputs = {}, {}, {}
    for which in contestants:
        steps[which] = step = step_of(which, block, solver, tolerance)
        step(x)
        block.calls = block.products = 0.0
        inputs[which] = step(x)
        counts[which] = (block.calls, block.products)
    apart = float((inputs["minimand"] - inputs["torchdeq"]).norm() / inputs["torchdeq"].norm())
    steps["block"] = evaluations_of(block, *map(round, counts["minimand"]))
    times = in_turns({which: lambda w=which: seconds(lambda: steps[w](x)) for which in steps}, rounds)
    context = multiprocessing.get_context("spawn")
    memory = {}
    for which in contestants:
        with context.Pool(1) as pool:
            memory[which] = pool.apply(peak, (which, name, solver, tolerance))
    ratios = {w: sorted(a / b for a, b in zip(times[w], times["torchdeq"], strict=True))[rounds // 2] for w in steps}
    print(f"{name}, {solver}, tolerance {tolerance:g}; gradients differ by {apart:.1e}")
    for which in contestants:
        calls, products = counts[which]
        middle = 1e3 * sorted(times[which])[rounds // 2]
        print(f"  {which:10}{calls:5.1f} + {products:4.1f} evaluations{middle:9.1f} ms{memory[which]:9.1f} MB")
    evaluations = sum(counts["minimand"]) / sum(counts["torchdeq"])
    share = memory["minimand"] / memory["torchdeq"]
    alone = f"   block{ratios['block']:6.2f}"
    print(f"  {'ratio':10}{evaluations:12.2f}{'':11}{ratios['minimand']:9.2f}   {share:9.2f}{alone}", flush=True)


def main() -> None:
    command = parser(__doc__, rounds=15)
    command.add_argument("--block", nargs="+", choices=BLOCKS, default=list(BLOCKS))
    command.add_argument("--solver", nargs="+", choices=SOLVERS, default=list(SOLVERS))
    options = command.parse_args()
    if importlib.util.find_spec("torchdeq") is None:
        raise SystemExit("the package torchdeq is what this compares with: pip install --no-deps torchdeq==0.1.0")
    torch.set_num_threads(options.threads)
    print(f"{machine()}, torchdeq 0.1.0, {options.rounds} rounds, batch {SAMPLES}, at most {STEPS} steps")
    for name in options.block:
        for solver in options.solver:
            for tolerance in TOLERANCES.values():
                compare(name, solver, tolerance, options.rounds)


if __name__ == "__main__":
    main()

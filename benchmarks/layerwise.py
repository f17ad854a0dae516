"""What training layer by layer costs beside end-to-end training: memory, time, and the accuracy of its defaults.

`python benchmarks/layerwise.py --help`. Memory is what autograd keeps by saved-tensor hooks, and what the process, or
the GPU, holds at its peak beyond what it held before the first step, each in a process of its own. Times are of
training steps on what lies below each block, block after block in turns.
"""

import multiprocessing
import resource
import statistics
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from turns import machine, parser, seconds

import minimand as mm
from minimand._support.tables import table_text
from minimand.models.vision.greedy import greedy_cifar
from minimand.report.size import saved_bytes
from minimand.training.loop.state_batch import StateBatch
from minimand.training.methods.local.layerwise import Shallow

BLOCKS, WIDTH, BATCH = 8, 32, 128


def network(device: torch.device) -> nn.Sequential:
    """Blocks of convolution, batch normalization and ReLU of one width, and a head."""
    torch.manual_seed(0)
    blocks = [
        nn.Sequential(nn.Conv2d(channels, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())
        for channels in (3, *[WIDTH] * (BLOCKS - 1))
    ]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * WIDTH, 10))
    return nn.Sequential(*blocks, head).to(device)


def batch(device: torch.device) -> tuple[Tensor, Tensor]:
    """Images of 32 x 32, and classes."""
    return torch.randn(BATCH, 3, 32, 32, device=device), torch.randint(10, (BATCH,), device=device)


def problems(model: nn.Module, x: Tensor) -> list[Shallow]:
    """The blocks with their classifiers, of one hidden layer."""
    return [cast(Shallow, p.module) for p in mm.Layerwise(2).plan(model, lambda: x[:4], 10, 1).problems]


def peak(which: str, device_name: str) -> float:
    """MB beyond what was held before the first step, at the most: of "whole", of all "blocks" or of one by number."""
    torch.set_num_threads(1)
    device = torch.device(device_name)
    model, (x, y) = network(device), batch(device)
    blocks = problems(model, x)
    trained = {"whole": [model], "blocks": blocks}.get(which) or [blocks[int(which)]]
    with torch.no_grad():
        model.eval()(x[:1])
    before = _held(device)
    for module in trained:
        module.train()
        for _ in range(2):
            F.cross_entropy(module(x), y).backward()
        module.zero_grad()
    return (_held(device, highest=True) - before) / 1e6


def _held(device: torch.device, highest: bool = False) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() if highest else torch.cuda.memory_allocated()
    if highest:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open("/proc/self/status") as file:
        return next(1024 * float(line.split()[1]) for line in file if line.startswith("VmRSS"))


def measured_peaks(device: torch.device) -> dict[str, float]:
    """The peaks of all parts, each measured in a new process."""
    parts = ["whole", "blocks", *map(str, range(BLOCKS))]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return {which: pool.apply(peak, (which, str(device))) for which in parts}


def kept(make: Callable[[], nn.Module], hidden_layers: int) -> list[str]:
    """MiB by hooks for a batch of 128: the most of a block, end to end, and their ratio."""
    with torch.device("meta"):
        model = make()
        x, y = torch.empty(128, 3, 32, 32), torch.zeros(128, dtype=torch.long)
        plan = mm.Layerwise(hidden_layers).plan(model, lambda: x[:4], 10, 1)

        def measured(module: nn.Module) -> float:
            parameters = nn.ModuleList([model, plan.saved])
            return saved_bytes(lambda: F.cross_entropy(module.train()(x), y), parameters) / 2**20

        most, whole = max(measured(p.module) for p in plan.problems), measured(model)
    return [f"{most:.1f}", f"{whole:.1f}", f"{whole / most:.2f}"]


def step_times(device: torch.device, rounds: int) -> tuple[list[float], list[float]]:
    """Median seconds of a training step of each block: on kept activations, and through the frozen blocks below."""
    model, (x, y) = network(device), batch(device)
    blocks = problems(model, x)
    inputs: list[Tensor | StateBatch] = [x]
    state = x
    for problem in blocks[:-1]:
        state = problem.through(state)
        inputs.append(StateBatch(*tree_flatten(state)))
    results: list[list[list[float]]] = [[[] for _ in blocks] for _ in (0, 1)]
    for r in range(rounds + 1):
        for j, problem in enumerate(blocks):
            for kind, below in enumerate((inputs[j], x)):
                problem.train()
                taken = seconds(lambda p=problem, below=below: F.cross_entropy(p(below), y).backward(), device)
                if r:  # the first round warms up
                    results[kind][j].append(taken)
    cached, through = ([statistics.median(times) for times in kind] for kind in results)
    return cached, through


def main() -> None:
    command = parser(__doc__, rounds=10)
    command.add_argument("--device", default="cpu")
    command.add_argument("--defaults", action="store_true", help="train a ResNet on the digits by the defaults too")
    options = command.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    print(f"{machine(device)}\n")

    rows = [[f"greedy_cifar, k = {k}", *kept(lambda k=k: greedy_cifar(k), k)] for k in (1, 2, 3)]
    rows.append([f"{BLOCKS} blocks of {WIDTH} channels, k = 2", *kept(lambda: network(torch.device("meta")), 2)])
    columns = ["kept for backward, batch of 128", "largest block, MiB", "end to end, MiB", "ratio"]
    print(table_text(columns, rows, labels=1))

    peaks = measured_peaks(device)
    largest = max(peaks[str(j)] for j in range(BLOCKS))
    together, whole = peaks["blocks"], peaks["whole"]
    print(f"\npeak of the process or the GPU, {BLOCKS} blocks of {WIDTH} channels, batch of {BATCH}")
    print(
        f"  end to end {whole:.0f} MB, blocks one after another {together:.0f} MB, largest block alone {largest:.0f} MB"
    )
    print(
        f"  layer by layer / largest block {together / largest:.3f}, end to end / layer by layer {whole / together:.2f}"
    )

    cached, through = step_times(device, options.rounds)
    inner = slice(1, BLOCKS - 1)  # blocks of the same shape, below classifiers of the same shape
    print("\nseconds of a training step of each block")
    print(f"  on kept activations {_listed(cached)}\n  through the frozen blocks {_listed(through)}")
    print(
        f"  of blocks 2 to {BLOCKS - 1}, slowest / fastest: {_range(cached[inner]):.3f} on kept activations, "
        f"{_range(through[inner]):.3f} through the frozen blocks"
    )
    if options.defaults:
        torch.manual_seed(0)
        result = mm.fit(mm.create_model("resnet20", in_channels=1, num_classes=10), "digits", method=mm.Layerwise())
        print(f"\nmm.Layerwise() and the default recipe, resnet20 on the digits: {result}")


def _listed(times: list[float]) -> str:
    return ", ".join(f"{t:.3f}" for t in times)


def _range(times: list[float]) -> float:
    return max(times) / min(times)


if __name__ == "__main__":
    main()

"""What it costs to look at the gradients of every step: a step of `mm.fit`'s parts with their norm read, and without.

Contestants take turns, step by step, in one process; the step without it, again, is the control that tells the noise.
"""

import functools

import torch
import torch.nn.functional as F
from torch import nn
from turns import in_turns, machine, parser, print_ratios, seconds

import minimand as mm


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor, looks: bool) -> float:
    """Make a step, and return the seconds that it took."""

    def make() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        read = [loss.detach()]
        if looks:
            read.append(nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
        torch.stack(read).tolist()
        optimizer.step()

    return seconds(make)


NETWORKS = {
    "mlp 784-512-512-10": (
        lambda: nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)),
        (128, 784),
    ),
    "resnet20": (lambda: mm.create_model("resnet20"), (128, 3, 32, 32)),
}


def main() -> None:
    options = parser(__doc__, rounds=60)
    options.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{machine()}, {arguments.threads} thread{'s' if arguments.threads > 1 else ''}")
    for name in arguments.networks:
        make, shape = NETWORKS[name]
        x, y = torch.randn(shape), torch.randint(10, shape[:1])
        measures = {}
        for label, looks in (("without", False), ("without, again", False), ("the norm is read", True)):
            torch.manual_seed(0)
            model = make()
            optimizer = torch.optim.SGD(model.parameters(), 1e-3, 0.9, nesterov=True)
            measures[label] = functools.partial(step, model, optimizer, x, y, looks)
        print(f"\n{name}, batch {shape[0]}: {arguments.rounds} rounds")
        print_ratios(in_turns(measures, arguments.rounds))


if __name__ == "__main__":
    main()

"""What target propagation costs: a training step of a network of thresholds against that of the same one with ReLUs.

Beside it stands the way of the published code: ordinary autograd with another slope, which keeps every activation as it
is. Contestants take turns, step by step, in one process; a second network with ReLUs is the control that tells the
noise. `python benchmarks/target_propagation.py --help` lists what can be changed; results/ holds committed runs.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.profiler import ProfilerActivity, profile
from turns import in_turns, machine, print_ratios, seconds

import minimand as mm
from minimand.models.vision.feedforward import convnet4, convnet8
from minimand.training.methods.method import Method
from minimand.training.methods.targets import passes as target_pass, saved_bits

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convnet4": convnet4,
    "convnet8": convnet8,
    "cifar_resnet18": lambda: mm.create_model("cifar_resnet18"),
}


class Surrogate(mm.layers.Threshold):
    """Sign forward, the slope of tanh backward, as published: a function of autograd that keeps z."""

    def __init__(self) -> None:
        super().__init__(-1.0, 1.0, (0.0,))

    def forward(self, z: Tensor) -> Tensor:
        return _Surrogate.apply(z)  # pyright: ignore[reportReturnType]


class _Surrogate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return torch.where(z > 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (z,) = ctx.saved_tensors
        return gradients[0] * (1 - z.tanh() ** 2)


def contestants(name: str) -> dict[str, tuple[nn.Module, Method]]:
    """Networks with the same first weights, and how each is trained."""

    def make(threshold: mm.layers.Threshold | None) -> nn.Module:
        torch.manual_seed(0)
        model = NETWORKS[name]()
        if threshold is not None:
            mm.harden(model, threshold)
        convert_conv2d_weight_memory_format(model, torch.channels_last)
        return model

    return {
        "ReLU": (make(None), mm.Backpropagation()),
        "ReLU, again": (make(None), mm.Backpropagation()),
        "sign, surrogate autograd": (make(Surrogate()), mm.Backpropagation()),
        "sign, target propagation": (make(mm.Sign()), mm.TargetPropagation()),
        "quantized ReLU, the same": (make(mm.QuantizedReLU(4)), mm.TargetPropagation()),
        "sign, recomputing": (make(mm.Sign()), mm.TargetPropagation(recompute=True)),
    }


def measure(name: str, batch: int, rounds: int) -> None:
    """Print time and memory of a step of each contestant."""
    running = contestants(name)
    x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (batch,))
    results = in_turns({label: partial(step, *pair, x, y) for label, pair in running.items()}, rounds)
    print(f"\n{name}, batch {batch}: {rounds} rounds; MiB kept for backward, and at most allocated in a step")
    memory = {
        title: {label: measured(*pair, x, y) / 2**20 for label, pair in running.items()}
        for title, measured in (("kept", saved), ("peak", peak))
    }
    print_ratios(results, memory)


def step(model: nn.Module, method: Method, x: Tensor, y: Tensor) -> float:
    """The processor's seconds of one forward and backward pass."""
    model.zero_grad()
    return seconds(lambda: method.backward(model, x, y, F.cross_entropy))


def saved(model: nn.Module, method: Method, x: Tensor, y: Tensor) -> int:
    """Bytes of the distinct storages that are kept for backward at a time, but for parameters and the batch."""
    before = {p.untyped_storage().data_ptr() for p in [*model.parameters(), x, y]}
    held: dict[int, tuple[StorageWeakRef, int]] = {}
    most = 0

    def count(tensor: Tensor) -> None:
        nonlocal most
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in before:
            weak = StorageWeakRef(storage)
            held[weak.cdata] = weak, storage.nbytes()
        most = max(most, sum(size for weak, size in held.values() if not weak.expired()))

    class Counting(saved_bits.SavedActivations):
        def pack(self, tensor: Tensor) -> Tensor | saved_bits.PackedActivation:
            packed = super().pack(tensor)
            count(packed.codes if isinstance(packed, saved_bits.PackedActivation) else packed)
            return packed

    def plain(tensor: Tensor) -> Tensor:
        count(tensor)
        return tensor

    usual, target_pass.SavedActivations = target_pass.SavedActivations, Counting
    try:
        with torch.autograd.graph.saved_tensors_hooks(plain, lambda tensor: tensor):
            method.backward(model, x, y, F.cross_entropy)
    finally:
        target_pass.SavedActivations = usual
    return most


def peak(model: nn.Module, method: Method, x: Tensor, y: Tensor) -> int:
    """The most bytes that a step allocates beyond what is there before; gradients of parameters are."""
    step(model, method, x, y)
    for p in model.parameters():
        assert p.grad is not None
        p.grad.zero_()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        method.backward(model, x, y, F.cross_entropy)
    results: Any = profiler.profiler and profiler.profiler.kineto_results
    changes = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    most = total = 0
    for _, size in changes:
        total += size
        most = max(most, total)
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="+", default=["convnet4", "convnet8"], choices=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, one thread")
    for name in options.model:
        measure(name, options.batch, options.rounds)


if __name__ == "__main__":
    main()

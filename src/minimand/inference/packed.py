"""Hardened models that run on bits."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from .._support.errors import MinimandError, WrongTypeError
from .._support.tables import table_text
from .._support.torch.internals import ConvNd
from ..data import Data, as_data
from ..data.description import describe, described
from ..layers.thresholds import Threshold
from ..layers.weight_bits import FewBitLayer, check_bits
from ..networks.compiled import unwrapped
from .file import read_packed, write_packed
from .rules import lower
from .steps import PackedLayer, PackReal, Pool, Shortcut, Unpack


class PackedModel(nn.Module):
    """A hardened model in evaluation mode whose layers of few bits run on activations of bits, on the CPU.

    `print` shows what each layer became, and the size; after the first batch the operations.
    """

    inputs: Data | None
    """What the model takes and gives, if that is known: shape, classes and normalization of data without samples."""

    only_precision = "fp32"

    def __init__(self, steps: fx.GraphModule, labels: dict[str, str], inputs: Data | None = None) -> None:
        super().__init__()
        self.steps, self.labels, self.inputs = steps, labels, inputs
        self._seen: tuple[int, ...] | None = None
        self.eval()

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Any:
        """The output of the hardened model, for a batch of float32 on the CPU."""
        self._check(x)
        self._seen = tuple(x.shape[1:])
        return self.steps(x)

    def train(self, mode: bool = True) -> "PackedModel":
        """A packed model stays in evaluation mode."""
        return super().train(False)

    def save(self, path: str | Path) -> None:
        """Write the model to a file, whole or not at all; `mm.load_packed` reads it."""
        write_packed(self.steps, self.labels, path, self.inputs)

    @torch.inference_mode()
    def operations(self, *shape: int) -> dict[str, int]:
        """The multiplications and additions for one sample of a shape (C, H, W), by the precision of the weights."""
        operations: Counter[str] = Counter()

        def count(step: nn.Module, inputs: tuple[Any, ...], y: Any) -> None:
            if isinstance(step, PackedLayer):
                operations[f"{step.bits}-bit"] += step.operations(inputs[0])
            elif isinstance(step, nn.Linear | ConvNd):
                outputs = step.out_features if isinstance(step, nn.Linear) else step.out_channels
                operations["float"] += y[0].numel() // outputs * step.weight.numel()

        x = torch.zeros(1, *shape)
        self._check(x)
        hooks = [step.register_forward_hook(count) for step in self.steps.modules()]
        try:
            self.steps(x)
        finally:
            for hook in hooks:
                hook.remove()
        return dict(operations)

    def sizes(self) -> dict[str, int]:
        """The bytes of the weights by their precision, of comparisons under `thresholds`, of all else under `float`."""
        sizes: Counter[str] = Counter()
        for step in self.steps.modules():
            tensors = [*step.parameters(recurse=False), *step.buffers(recurse=False)]
            if isinstance(step, PackedLayer):
                sizes[f"{step.bits}-bit"] += -(-step.integers.numel() * step.bits // 8)
                tensors = [tensor for tensor in tensors if tensor is not step.integers]
            name = "thresholds" if isinstance(step, PackedLayer | PackReal) else "float"
            sizes[name] += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return {kind: size for kind, size in sizes.items() if size}

    def __str__(self) -> str:
        steps = dict(self.steps.named_children())
        rows = [
            [self.labels[str(node.target)], _what(steps[str(node.target)])]
            for node in self.steps.graph.nodes
            if node.op == "call_module" and not isinstance(steps[str(node.target)], Unpack | Pool | Shortcut)
        ]
        lines = [table_text(["", "description"], rows), "", f"size: {_listed(self.sizes(), 1e3, 'kB')}"]
        if self._seen is not None:
            shape = " x ".join(map(str, self._seen))
            lines.append(f"operations for {shape}: {_listed(self.operations(*self._seen), 1e6, 'M')}")
        return "\n".join(lines)

    def _check(self, x: Any) -> None:
        if not isinstance(x, Tensor) or x.dtype != torch.float32 or x.device.type != "cpu":
            shown = f"{x.dtype} on {x.device}" if isinstance(x, Tensor) else type(x).__name__
            raise MinimandError(f"a packed model was given {shown}; expected a tensor of torch.float32 on the CPU.")
        node = next(iter(self.steps.graph.nodes))
        for user in node.users:
            step = self.steps.get_submodule(str(user.target)) if user.op == "call_module" else None
            if isinstance(step, nn.Conv2d) and (x.ndim != 4 or x.shape[1] != step.in_channels):
                expected = f"(N, {step.in_channels}, H, W)"
            elif isinstance(step, nn.Linear) and x.shape[-1:] != (step.in_features,):
                expected = f"(N, {step.in_features})"
            else:
                continue
            raise MinimandError(f"a packed model was given a batch of shape {tuple(x.shape)}; expected {expected}.")


@torch.no_grad()
def pack(model: nn.Module, weight_bits: int | None = None, *, data: Any = None) -> PackedModel:
    """A hardened model as one that runs on bits: faster and smaller, and the same in what it gives.

    Layers of few-bit weights between thresholds are computed by integers, exactly: bits in, bits out. The thresholds
    are found through the model's own float arithmetic (normalization and bias included), so that the bits agree for
    every finite input. Before the first threshold and after the last the same torch operations run on the same values;
    so does a layer of real weights between thresholds, on unpacked bits.

    Args:
        model: such as `mm.harden` made, a function of one tensor that `torch.fx` can read; it is not changed.
        weight_bits: round the real weights of layers between thresholds to 8 bits (or 4, 2, 1) now, after training.
            The packed model then agrees with the rounded one.
        data: what the model was trained on, as for `mm.fit`: the packed model and its file then know the classes and
            the normalization, which `mm.predict` and `minimand predict` use.

    Raises:
        MinimandError: nothing to pack; an activation between thresholds that cannot be folded; a model that torch.fx
            cannot read.
    """
    if not isinstance(model, nn.Module):
        raise WrongTypeError(f"model is {type(model).__name__}; expected a module that mm.harden made.")
    if weight_bits is not None:
        check_bits(weight_bits)
    model = unwrapped(model)
    if isinstance(model, PackedModel):
        raise MinimandError("model is a packed one; expected the hardened model, of which it was made.")
    if not any(isinstance(m, Threshold) for m in model.modules()):
        raise MinimandError(
            f"{type(model).__name__} has no thresholds, so there is nothing to pack; mm.harden(model, mm.Sign(), "
            "weight_bits=1) puts them in the place of its activations, and then it has to be trained."
        )
    model = copy.deepcopy(model).cpu().float().eval()
    lowering = lower(model, weight_bits)
    if not any(isinstance(step, PackedLayer) for step in lowering.root.children()):
        raise MinimandError(
            f"nothing to pack in {type(model).__name__}: no layer with weights of few bits takes what a threshold "
            f"gives; {_remedy(model, lowering.waiting)}."
        )
    inputs = None if data is None else described(describe(as_data(data)))
    return PackedModel(fx.GraphModule(lowering.root, lowering.graph), lowering.labels, inputs)


def load_packed(path: str | Path) -> PackedModel:
    """The packed model that `PackedModel.save` wrote; PackedFileError if the file is damaged or of another version."""
    return PackedModel(*read_packed(path))


def _remedy(model: nn.Module, waiting: list[str]) -> str:
    if few := [name for name, m in model.named_modules() if isinstance(m, FewBitLayer)]:
        return (
            f"those that there are ({', '.join(few)}) have other inputs. Linear layers and nn.Conv2d run on bits of "
            "mm.Sign(), or of steps that begin at 0, with nothing but nn.MaxPool2d and nn.Flatten before them"
        )
    hint = f"; mm.pack(model, weight_bits=8) would round those of {', '.join(waiting)} to 8 bits" if waiting else ""
    return f"mm.harden(model, mm.Sign(), weight_bits=1) gives them such weights before training{hint}"


def _what(step: nn.Module) -> str:
    if isinstance(step, PackedLayer):
        inside = "bits" if step.thresholds is not None else "real values"
        shape = " x ".join(map(str, step.integers.shape))
        return f"weights {shape} of {step.bits} {'bit' if step.bits == 1 else 'bits'}: bits to {inside}"
    return "real values to bits" if isinstance(step, PackReal) else f"as it was: {step}"


def _listed(amounts: dict[str, int], unit: float, name: str) -> str:
    return ", ".join(f"{kind} {amount / unit:,.1f} {name}" for kind, amount in sorted(amounts.items()))

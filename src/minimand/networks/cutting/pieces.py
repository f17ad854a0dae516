"""A model cut between its repeated blocks: stem, layers and head, each a module that runs a part of a recording."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ..._support.torch.internals import tree_flatten
from ..arguments import as_arguments
from .recording import Call, Own, Recording, Ref, Size, Unrecordable, leaves_of, mapped


@dataclass(frozen=True)
class Carried:
    """How a tensor of a recording is carried from a piece to the next: samples along the first axis."""

    number: int
    axis: int | None
    """The axis of the samples; None for a tensor that is the same for all samples, each of which carries it along."""
    rows: int = 1
    """The rows on that axis for each sample."""

    def pack(self, x: Tensor, batch_size: int) -> Tensor:
        """The tensor with samples along its first axis."""
        if self.axis is None:
            return x.expand(batch_size, *x.shape)
        x = x.movedim(self.axis, 0) if self.axis else x
        return x if self.rows == 1 else x.unflatten(0, (batch_size, self.rows))

    def unpack(self, x: Tensor) -> Tensor:
        """The tensor as the code of the model knows it, from what `pack` gave."""
        if self.axis is None:
            return x[0]
        x = x if self.rows == 1 else x.flatten(0, 1)
        return x.movedim(0, self.axis) if self.axis else x


@dataclass(frozen=True)
class Program:
    """Some of the calls of a recording; what they are given, and what they give."""

    calls: tuple[Call, ...]
    entry: tuple[Carried, ...] | None
    """The tensors of the state below; None for the inputs of the model."""
    exit: tuple[Carried, ...] | None
    """The tensors of the state above; None for the output of the model."""
    inputs: tuple[int, ...]
    output: Any

    def run(self, state: Any) -> Any:
        """The state above from the state below."""
        leaves = [x for x in tree_flatten(state)[0] if isinstance(x, Tensor)]
        size = leaves[0].shape[0]
        if self.entry is None:
            tensors = dict(zip(self.inputs, leaves, strict=True))
        else:
            tensors = {c.number: c.unpack(x) for c, x in zip(self.entry, leaves, strict=True)}

        def value(x: Any) -> Any:
            if isinstance(x, Ref):
                return tensors[x.number]
            if isinstance(x, Own):
                return x.tensor
            return x.factor * size + x.offset if isinstance(x, Size) else x

        for call in self.calls:
            args, kwargs = mapped(call.arguments, value)
            if call.learns_from:
                result = call.target(*args, **kwargs)
            else:
                with torch.no_grad():
                    result = call.target(*args, **kwargs)
            leaves = [result] if isinstance(result, Tensor) else tree_flatten(result)[0]
            if len(leaves) != len(call.outputs):
                raise MinimandError(
                    f"{type(call.target).__name__} gives {len(leaves)} values, and gave {len(call.outputs)} when the "
                    "model was cut; expected the same model, or another mm.as_network(model, example)."
                )
            for number, leaf in zip(call.outputs, leaves, strict=True):
                if number is not None:
                    tensors[number] = leaf
        if self.exit is None:
            return mapped(self.output, value)
        states = [c.pack(tensors[c.number], size) for c in self.exit]
        return tuple(states) if len(states) > 1 else states[0]

    @property
    def chain(self) -> list[nn.Module] | None:
        """The modules that it runs one after another on a single tensor; None where it does something else."""
        plain = [(c.number, c.axis, c.rows) for carried in (self.entry, self.exit) for c in carried or ()]
        if any((axis, rows) != (0, 1) for _, axis, rows in plain):
            return None
        first = self.inputs if self.entry is None else [c.number for c in self.entry]
        last = leaves_of(self.output) if self.exit is None else [Ref(c.number) for c in self.exit]
        if len(first) != 1:
            return None
        modules: list[nn.Module] = []
        now = Ref(first[0])
        for call in self.calls:
            args, kwargs = call.arguments
            if not call.learns_from or len(call.outputs) != 1 or call.outputs[0] is None or args[:1] != (now,):
                return None
            if call.is_module and len(args) == 1 and not kwargs:
                modules.append(call.target)
            elif getattr(call.target, "__name__", "") == "flatten" and (args[1:], kwargs) in (((1,), {}), ((), _ONE)):
                modules.append(nn.Flatten())
            else:
                return None
            now = Ref(call.outputs[0])
        is_tensor = self.exit is not None or isinstance(self.output, Ref)
        return modules if is_tensor and last == [now] else None


_ONE = {"start_dim": 1}


class Piece(nn.Module):
    """A part of a model between two cuts, as it runs in training and in evaluation."""

    def __init__(self, model: nn.Module, programs: dict[bool, Program]) -> None:
        super().__init__()
        self.programs = programs
        names = {module: name for name, module in model.named_modules()}
        for program in programs.values():
            for call in program.calls:
                for module in (x for x in (call.target, *call.leaves()) if isinstance(x, nn.Module)):
                    self.add_module(names[module].replace(".", "_") or "model", module)
                for own in (x for x in call.leaves() if isinstance(x, Own)):
                    if isinstance(own.tensor, nn.Parameter):
                        name = f"{names[own.owner]}.{own.name}".removeprefix(".")
                        self.register_parameter(name.replace(".", "_"), own.tensor)

    def forward(self, state: Any) -> Any:
        # The modules are the model's, whose mode may be set there.
        modes = [child.training for child in self.children()]
        return self.programs[any(modes) if modes else self.training].run(state)


class Stem(Piece):
    """The first piece of a model; it takes what the model takes."""

    def __init__(self, model: nn.Module, programs: dict[bool, Program], shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__(model, programs)
        self.shapes = tuple(shapes)

    def forward(self, state: Any) -> Any:
        inputs = as_arguments(state)
        shapes = tuple(tuple(x.shape[1:]) for x in tree_flatten(inputs)[0] if isinstance(x, Tensor))
        if shapes != self.shapes:
            raise MinimandError(
                f"the network was cut at samples of shape {_texts(self.shapes)}, and was given {_texts(shapes)}; "
                "expected the same, or another mm.as_network(model, example) for them."
            )
        return super().forward(inputs)


def _texts(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(str(shape) for shape in shapes)


def programs(one: Recording, other: Recording, whole: Recording, cuts: Sequence[int]) -> list[Program]:
    """The programs between the cuts, which are positions among the calls of the `whole` recording.

    It is that of two recordings of other batch sizes, merged; raises Unrecordable for a tensor that does not follow the
    batch size along one axis.
    """
    states = [tuple(carried(number, one, other) for number in live(whole, cut, main(whole, cut, one))) for cut in cuts]
    ends = [0, *cuts, len(whole.calls)]
    entries = [None, *states]
    exits = [*states, None]
    return [
        Program(whole.calls[a:b], entry, out, whole.inputs, whole.output)
        for a, b, entry, out in zip(ends[:-1], ends[1:], entries, exits, strict=True)
    ]


def live(recording: Recording, cut: int, first: int | None = None) -> list[int]:
    """The numbers of the tensors that are there before a call and read from it on; one of them first."""
    before = {*recording.inputs, *(n for call in recording.calls[:cut] for n in call.outputs if n is not None)}
    after = {n for call in recording.calls[cut:] for n in call.reads}
    after |= {leaf.number for leaf in leaves_of(recording.output) if isinstance(leaf, Ref)}
    return sorted(before & after, key=lambda number: (number != first, number))


def main(recording: Recording, cut: int, shapes: Recording) -> int | None:
    """The number of the newest floating-point tensor with samples along its first axis that is live at a cut."""
    size = shapes.batch_size
    newest = reversed([n for n in live(recording, cut) if shapes.shapes[n][:1] == (size,)])
    return next((n for n in newest if shapes.dtypes[n].is_floating_point and len(shapes.shapes[n]) > 1), None)


def carried(number: int, one: Recording, other: Recording) -> Carried:
    """How a tensor is carried, from its shapes at two batch sizes."""
    a, b = one.shapes[number], other.shapes[number]
    differing = [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
    if not differing:
        return Carried(number, None)
    (axis, *more) = differing
    rows, rest = divmod(a[axis], one.batch_size)
    if more or rest or b[axis] != rows * other.batch_size:
        raise Unrecordable(
            f"what goes from block to block has the shape {a} for {one.batch_size} samples and {b} for "
            f"{other.batch_size}: no axis of samples"
        )
    return Carried(number, axis, rows)

"""What the code of a model between its blocks does with tensors, recorded as it runs.

A call of a module, and a torch function outside of modules, is a `Call`. Two recordings, of two batch sizes, are merged
into one: a number that differs between them follows the batch size.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..._support.errors import MinimandError
from ..._support.torch.internals import own_buffers, own_parameters, seems_compiled, tree_flatten, tree_map, version

# Functions by which numbers inside a tensor come into Python, where a branch may follow from them.
_READERS = {"item", "tolist", "numpy", "equal", "allclose", "is_nonzero", "__bool__", "__int__", "__float__"}
_READERS |= {"__index__", "__contains__", "__array__"}


class Unrecordable(MinimandError):
    """What a model does between its blocks cannot be recorded."""


@dataclass(frozen=True)
class Ref:
    """A tensor of a recording, by its number."""

    number: int


@dataclass(frozen=True)
class Own:
    """A parameter or buffer of the model, looked up at each run in the module that holds it."""

    owner: nn.Module
    name: str

    @property
    def tensor(self) -> Tensor:
        """What the module holds under that name now."""
        return getattr(self.owner, self.name)


@dataclass(frozen=True)
class Size:
    """A whole number that follows the batch size n: factor n + offset."""

    factor: int
    offset: int


@dataclass(frozen=True)
class Call:
    """A call of a module, or of a torch function outside of modules."""

    target: Any
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    """Positional and named arguments, with `Ref`, `Own` and `Size` in the places of what is no constant."""
    outputs: tuple[int | None, ...]
    """The number of the tensor, or None, for each leaf of what is returned."""
    learns_from: bool
    """Whether gradients were enabled when the call was recorded."""

    @property
    def is_module(self) -> bool:
        """Whether a module is called, and no function."""
        return isinstance(self.target, nn.Module)

    def leaves(self) -> list[Any]:
        """The arguments one by one, those inside lists, dictionaries and slices too."""
        return leaves_of(self.arguments)

    @property
    def reads(self) -> set[int]:
        """The numbers of the tensors that the call is given."""
        return {leaf.number for leaf in self.leaves() if isinstance(leaf, Ref)}

    @property
    def has_parameters(self) -> bool:
        """Whether parameters of the model take part in the call."""
        own = any(isinstance(leaf, Own) and isinstance(leaf.tensor, nn.Parameter) for leaf in self.leaves())
        return own or (self.is_module and any(True for _ in self.target.parameters()))


@dataclass(frozen=True)
class Recording:
    """The calls of one pass through a model, and the shapes of all tensors in it by number."""

    batch_size: int
    inputs: tuple[int, ...]
    calls: tuple[Call, ...]
    output: Any
    """What the model returned, with `Ref` in the places of tensors."""
    shapes: dict[int, tuple[int, ...]]
    dtypes: dict[int, torch.dtype] = field(default_factory=dict)


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """A structure with every leaf changed; the parts of slices and sizes are leaves too."""

    def leaf(x: Any) -> Any:
        if isinstance(x, slice):
            return slice(change(x.start), change(x.stop), change(x.step))
        return tuple(map(change, x)) if isinstance(x, torch.Size) else change(x)

    return tree_map(leaf, value)


def leaves_of(value: Any) -> list[Any]:
    """The leaves of a structure, in the order of `mapped`."""
    leaves: list[Any] = []
    mapped(value, leaves.append)
    return leaves


def attribute(x: Tensor, name: str) -> Any:
    """An attribute of a tensor, such as `mT`."""
    return getattr(x, name)


class _Recorder(TorchFunctionMode):
    """A mode that notes calls while a model runs; what happens inside of the modules it is told of is theirs."""

    def __init__(self, model: nn.Module, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.numbers: dict[int, int] = {}
        self.tensors: list[Tensor] = []  # held, so that no new tensor gets the id of one that is gone
        self.from_input: set[int] = set()
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.dtypes: dict[int, torch.dtype] = {}
        self.own: dict[int, Own] = {}
        self.inside = 0
        self.waiting: list[Any] = []
        self.name = type(model).__name__
        for module in model.modules():
            for table in (own_parameters(module), own_buffers(module)):
                self.own.update({id(t): Own(module, name) for name, t in table.items() if t is not None})
        for x in inputs:
            self.from_input.add(self.number(x))

    def number(self, x: Tensor) -> int:
        """A new number for a tensor."""
        self.tensors.append(x)
        number = self.numbers[id(x)] = len(self.tensors) - 1
        self.shapes[number], self.dtypes[number] = tuple(x.shape), x.dtype
        return number

    def symbol(self, x: Any) -> Any:
        """What stands in the recording for an argument."""
        if not isinstance(x, Tensor):
            return x
        if id(x) in self.numbers:
            return Ref(self.numbers[id(x)])
        return self.own.get(id(x), x)

    def note(self, target: Any, arguments: Any, output: Any) -> None:
        """Note a call with its arguments as they stand in the recording."""
        outputs = [x if isinstance(x, Tensor) else None for x in tree_flatten(output)[0]]
        call = Call(target, arguments, (), torch.is_grad_enabled())
        numbers = tuple(None if x is None else self.number(x) for x in outputs)
        if call.reads & self.from_input:
            self.from_input.update(number for number in numbers if number is not None)
        self.calls.append(replace(call, outputs=numbers))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.inside:
            return func(*args, **kwargs)
        arguments = mapped((args, kwargs), self.symbol)
        inputs = [x for x in leaves_of((args, kwargs)) if isinstance(x, Tensor)]
        before = [version(x) for x in inputs]
        output = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in _READERS:
            self.check_reading(name, arguments)
        written = [version(x) for x in inputs] != before
        if not written and not any(isinstance(x, Tensor) for x in tree_flatten(output)[0]):
            return output
        if name == "__get__":
            func, arguments = attribute, (arguments[0][:1], {"name": func.__self__.__name__})
        self.note(func, arguments, output)
        return output

    def check_reading(self, name: str, arguments: Any) -> None:
        if any(isinstance(x, Ref) and x.number in self.from_input for x in leaves_of(arguments)):
            raise Unrecordable(
                f"{self.name} looks at numbers of its batch between its blocks (Tensor.{name} {_place()}), and what it "
                "does may follow from them"
            )

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin to record the call of a module, unless it is called inside of another one: a forward pre-hook."""
        if not self.inside:
            self.waiting.append(mapped((args, kwargs), self.symbol))
        self.inside += 1

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Record what a module returned, unless it was called inside of another one: a forward hook."""
        self.inside -= 1
        if not self.inside:
            self.note(module, self.waiting.pop(), output)


def record(
    model: nn.Module, modules: Iterable[nn.Module], args: tuple[Any, ...], kwargs: dict[str, Any], batch_size: int
) -> Recording:
    """Run a model, and note what it does outside of some of its modules; raises Unrecordable."""
    inputs = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    recorder = _Recorder(model, inputs)
    with ExitStack() as stack:
        for module in modules:
            before = module.register_forward_pre_hook(recorder.enter, with_kwargs=True, prepend=True)
            stack.callback(before.remove)
            stack.callback(module.register_forward_hook(recorder.leave, with_kwargs=True).remove)
        # Libraries then leave out what would follow from numbers of this one batch, such as whether it has padding.
        stack.enter_context(seems_compiled())
        with recorder:
            output = model(*args, **kwargs)
    return Recording(
        batch_size,
        tuple(range(len(inputs))),
        tuple(recorder.calls),
        mapped(output, recorder.symbol),
        recorder.shapes,
        recorder.dtypes,
    )


def merged(a: Recording, b: Recording) -> Recording:
    """Two recordings of one model at two batch sizes as one; raises Unrecordable where they are not alike."""
    if [call.target for call in a.calls] != [call.target for call in b.calls]:
        raise Unrecordable("what happens between the blocks depends on the batch size")

    def both(x: Any, y: Any) -> Any:
        if isinstance(x, int) and isinstance(y, int) and not isinstance(x, bool) and x != y:
            factor, rest = divmod(y - x, b.batch_size - a.batch_size)
            if rest == 0:
                return Size(factor, x - factor * a.batch_size)
        if isinstance(x, Tensor) or isinstance(y, Tensor):
            if x is not y:
                raise Unrecordable(
                    f"a tensor of shape {tuple(getattr(x, 'shape', ()))} comes from something that is no torch "
                    "function, such as numpy or a torch.autograd.Function; inside of a module it would be seen as one"
                )
        elif not (x is y or (type(x) is type(y) and _same(x, y))):
            raise Unrecordable(f"a {type(x).__name__} is handed on between the blocks, and is another one each time")
        return x

    calls = [
        replace(one, arguments=_merged_structures(one.arguments, other.arguments, both))
        for one, other in zip(a.calls, b.calls, strict=True)
    ]
    return replace(a, calls=tuple(calls), output=_merged_structures(a.output, b.output, both))


def _merged_structures(a: Any, b: Any, both: Callable[[Any, Any], Any]) -> Any:
    others = leaves_of(b)
    if len(leaves_of(a)) != len(others):
        raise Unrecordable("what happens between the blocks depends on the batch size")
    following = iter(others)
    return mapped(a, lambda x: both(x, next(following)))


def _same(x: Any, y: Any) -> bool:
    try:
        return bool(x == y)
    except (RuntimeError, TypeError, ValueError):
        return False


def _place() -> str:
    """The line of the model's code that runs now."""
    frame = sys._getframe()
    while frame and (frame.f_globals.get("__name__", "").split(".")[0] in ("torch", "minimand")):
        frame = frame.f_back
    return f"in {frame.f_code.co_filename}, line {frame.f_lineno}" if frame else ""

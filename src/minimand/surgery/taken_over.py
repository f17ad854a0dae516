"""Rewired layers that keep less for the backward pass: the first one's call runs all, the later ones give what it gave.

A hook on a single layer frees nothing: what a layer keeps, it keeps until the backward pass. So the `forward` of the
first layer runs the stage as `mm.unroll` would, and asks each layer, or each branch of one, as a block.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError, MisuseError
from .._support.torch.internals import replaced_forward
from ..networks.memory.checkpointed import checkpointed
from ..networks.memory.choice import backward_recurrence
from ..networks.memory.controller import Backwards
from ..networks.memory.rerunning import Rerunning
from ..networks.undisturbed import undisturbed
from ..networks.unrolled import ask as ask_block, program_of
from .wired import first_tensor, tensors, this_thread

_LOCK = Lock()


class Asked(nn.Module):
    """A layer, or one branch of it, as a block: what it answers at a point, for the other arguments of a call."""

    owner: "TakenOver"

    def __init__(self, owner: "TakenOver", layer: nn.Module, k: int) -> None:
        super().__init__()
        self.layer, self.k = layer, k
        self.__dict__["owner"] = owner
        self.arguments: tuple[tuple[Any, ...], dict[str, Any]] = (), {}

    def forward(self, x: Tensor) -> Tensor:
        return self.owner.answer(self, x)


class TakenOver:
    """A run of layers of which the first one's call is that of all, where a gradient may be asked for."""

    def __init__(self, run: Any, layers: Sequence[nn.Module], per_layer: int) -> None:
        self.run, self.layers = run, list(layers)
        self.asked = [Asked(self, layers[k // per_layer], k) for k in range(per_layer * len(layers))]
        self.before = [replaced_forward(layer) for layer in layers]
        """What stood in the place of the `forward` of each layer's class before, if anything."""
        self.skipped: dict[int, dict[str, int | None]] = {}
        """The children that run for a branch alone, by branch, with the length of the tuple that each gives, if any."""
        self._outputs: dict[int | None, Tensor] = {}
        """What all layers gave, by thread, from the call of the first one to that of the last."""
        self._inside: list[int | None] = []
        """The threads that are in a layer's own `forward`."""
        self._asking: int | None = None
        """The thread that asks layers as blocks, and changes them for as long."""
        self.difference: float | None = None
        """How far the output of the first training batch was from that of the layers as they were, relative."""
        self._make()
        for i, layer in enumerate(layers):
            layer.__dict__["forward"] = _Forward(self, i)

    def restore(self) -> None:
        """Give the layers their own `forward` back."""
        for layer, forward in zip(self.layers, self.before, strict=True):
            del layer.__dict__["forward"]
            if forward is not None:
                layer.__dict__["forward"] = forward

    def call(self, forward: "_Forward", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a layer gives when it is called: its own output, or that of all layers."""
        i = forward.i
        inputs = tensors(args, kwargs)
        if not inputs:
            raise MisuseError(f"layer {i} of {self.run.names[0]} ... was given no tensor; expected the state first.")
        x, thread = inputs[0], this_thread()
        if i == 0:
            drawn = self.run.coefficients.drawn and not self.layers[0].training
            self._outputs.pop(thread, None)
            if forward.reruns(x) and not drawn:
                self._outputs[thread] = self._run(x, args, kwargs)
        output = self._outputs.get(thread)
        if output is None:
            self.run.answered.discard(thread)
            return self._own(i, thread, args, kwargs)
        self.run.answered.add(thread)
        if i > 0 and x is not output:
            raise MisuseError(
                "a layer was not given what the one before it returned: something stands between them. Expected "
                "layers one after another, or memory='store'."
            )
        if i + 1 == len(self.layers):
            del self._outputs[thread]
        return output if not self.tuples else (output, *[None] * (self.tuples - 1))

    def _own(self, i: int, thread: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What layer i itself gives, while no other thread asks layers as blocks."""
        with _LOCK:
            if self._asking not in (None, thread):
                raise self._two_threads()
            self._inside.append(thread)
        try:
            return self._layer_forward(i)(*args, **kwargs)
        finally:
            self._inside.remove(thread)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A context in which this thread asks layers as blocks, and hooks let everything pass."""
        thread = this_thread()
        with _LOCK:
            if self._asking not in (None, thread) or any(other != thread for other in self._inside):
                raise self._two_threads()
            was, self._asking, self.run.suspended = (self._asking, self.run.suspended), thread, True
        try:
            yield
        finally:
            self._asking, self.run.suspended = was

    def _two_threads(self) -> MisuseError:
        return MisuseError(
            f"{self.run.names[0]} ... is run by two threads at once; expected one at a time, or memory='store'."
        )

    def answer(self, block: Asked, x: Tensor) -> Tensor:
        """What a layer answers at x, or one of its branches; raises MisuseError where it has another shape."""
        args, kwargs = block.arguments
        index = self.layers.index(block.layer)
        if len(self.asked) == len(self.layers):
            output, _ = first_tensor(self._forward(index, x, args, kwargs))
        else:
            output = self._branch(index, block.k, x, args, kwargs)
        if output.shape != x.shape:
            shapes = f"{tuple(x.shape)} to {tuple(output.shape)}"
            name = self.run.names[block.k]
            raise MisuseError(f"{name} maps {shapes}; what is rewired has to keep the shape of the state.")
        return output

    def _run(self, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        # A block that runs twice would remember its keys and values twice.
        args = tuple(None if _is_cache(value) else value for value in args)
        kwargs = {name: None if _is_cache(value) else value for name, value in kwargs.items()}
        if kwargs.get("use_cache"):
            kwargs["use_cache"] = False
        rest = _without(x, args, kwargs)
        with self._alone():
            if self.difference is None:
                self.difference = self._compared(x, rest)
            values = self.run.values(x)
            ask = self._asker(rest)
            if self._backwards is not None:
                return self._backwards(ask, lambda k, _: self.asked[k], (x,), values)
            execution = self._execution
            return execution(lambda k, o, q: checkpointed(self.asked[k], lambda q: ask(k, o, q), q), (x,), values)

    def _asker(self, rest: tuple[tuple[Any, ...], dict[str, Any]]) -> Callable[[int, str, Tensor], Tensor]:
        def ask(k: int, oracle: str, x: Tensor) -> Tensor:
            with self._alone():
                self.asked[k].arguments = rest
                try:
                    return ask_block(self.asked[k], oracle, x, k)
                finally:
                    self.asked[k].arguments = (), {}

        return ask

    def _compared(self, x: Tensor, rest: tuple[tuple[Any, ...], dict[str, Any]]) -> float:
        """How far the layers as they are wired are from the layers as they were, on a batch."""
        self._look_at(x, rest)
        with undisturbed(nn.ModuleList(self.layers)), torch.no_grad():
            for layer in self.layers:
                layer.eval()
            ask = self._asker(rest)
            plain = x
            for i in range(len(self.layers)):
                following, _ = first_tensor(self._forward(i, plain, *rest))
                self._check_sum(i, plain, following, ask)
                plain = following
            wired = self._execution(ask, (x,), self.run.values(x) if self.run.coefficients.names else {})
            return float((wired - plain).norm() / plain.norm())

    def _check_sum(self, i: int, stream: Tensor, following: Tensor, ask: Callable[[int, str, Tensor], Tensor]) -> None:
        """Raise MisuseError unless layer i is the sum of its branches: what stands between them would be left out."""
        per_layer = len(self.asked) // len(self.layers)
        if per_layer == 1:  # layers that are one block each have nothing between branches
            return
        for k in range(i * per_layer, (i + 1) * per_layer):
            stream = stream + ask(k, self.run.algorithm.oracles[0], stream)
        if not (stream - following).norm() <= torch.finfo(following.dtype).eps ** 0.5 * following.norm():
            names = " and ".join(self.run.names[i * per_layer : (i + 1) * per_layer])
            raise MisuseError(
                f"what {names} answer, added to the stream one after the other, is not what their layer gives: "
                "something stands between them. Rewire whole blocks instead: at='blocks'."
            )

    def _look_at(self, x: Tensor, rest: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
        """Find out which children of a layer run for which branch, and whether layers give tuples."""
        with undisturbed(nn.ModuleList(self.layers)), torch.no_grad():
            calls: list[tuple[int, str, int | None]] = []
            handles = []
            layer = self.layers[0]
            per_layer = len(self.asked) // len(self.layers)
            for name, child in layer.named_children():

                def note(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                    calls.append((self.run.entered, name, len(output) if isinstance(output, tuple | list) else None))

                handles.append(child.register_forward_hook(note))
            try:
                output = self._forward(0, x, *rest)
            finally:
                for handle in handles:
                    handle.remove()
        self.tuples = len(output) if isinstance(output, tuple | list) else 0
        if self.tuples and any(isinstance(other, Tensor) for other in output[1:]):
            raise MisuseError(
                f"{type(layer).__name__} gives more than its state, which memory={self.run.memory!r} drops; expected "
                "a call without attentions and keys, or memory='store'."
            )
        branches = {name: {k % per_layer for k, other, _ in calls if other == name} for _, name, _ in calls}
        for k in range(per_layer):
            alone = [(name, size) for _, name, size in calls if branches[name] == {k}]
            self.skipped[k] = dict(alone)

    def _branch(self, i: int, k: int, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The answer of branch k at x: the layer runs with its other branches giving zero, at no cost."""
        per_layer = len(self.asked) // len(self.layers)
        layer, target = self.layers[i], k % per_layer
        stubbed = []
        for other, children in self.skipped.items():
            for name, size in children.items() if other != target else ():
                child = layer.get_submodule(name)
                stubbed.append((child, child.__dict__.get("forward")))
                child.__dict__["forward"] = _Passing(size)
        self.run.asking = k
        try:
            self._forward(i, x, args, kwargs)
            answer = self.run.captured
        finally:
            self.run.asking = self.run.captured = None
            for child, forward in reversed(stubbed):
                del child.__dict__["forward"]
                if forward is not None:
                    child.__dict__["forward"] = forward
        if answer is None:
            raise MisuseError(f"{self.run.names[k]} did not run when its layer did.")
        return answer

    def _forward(self, i: int, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._layer_forward(i)(*(x if a is _STATE else a for a in args), **_put(kwargs, x))

    def _layer_forward(self, i: int) -> Callable[..., Any]:
        """The `forward` of layer i as it was; no bound method is kept, which a pickle would look up by its name."""
        layer, before = self.layers[i], self.before[i]
        return MethodType(type(layer).forward, layer) if before is None else before

    def _make(self) -> None:
        self.tuples = 0
        run = self.run
        execution = program_of(run.algorithm, len(self.asked), run.binding)
        if execution is None:
            raise MinimandError(f"{run.algorithm} needs the value of a learnable coefficient; make it constant.")
        self._execution = execution
        self._backwards = None
        if run.memory == "reversible":
            recurrence = backward_recurrence(run.algorithm, len(self.asked), run.binding)
            self._backwards = Backwards(recurrence, run.exact)

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in vars(self).items() if n not in ("_execution", "_backwards")}  # they hold closures

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._make()


class _Forward(Rerunning):
    """The `forward` of layer i of a run that is taken over."""

    def __init__(self, owner: TakenOver, i: int) -> None:
        self.owner, self.i = owner, i

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.owner.call(self, args, kwargs)


class _Passing:
    """A `forward` that hands on what it is given, first in a tuple of a length if there is one."""

    def __init__(self, size: int | None) -> None:
        self.size = size

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        x = tensors(args, kwargs)[0]
        return x if self.size is None else (x, *[None] * (self.size - 1))


class _State:
    """Stands among the arguments of a call where the state does."""


_STATE = _State()


def _is_cache(value: Any) -> bool:
    """Whether an argument remembers keys and values, as those of transformers do."""
    return type(value).__name__.endswith("Cache")


def _without(x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with a placeholder for the state."""
    return tuple(_STATE if a is x else a for a in args), {n: _STATE if v is x else v for n, v in kwargs.items()}


def _put(kwargs: dict[str, Any], x: Tensor) -> dict[str, Any]:
    return {name: x if value is _STATE else value for name, value in kwargs.items()}

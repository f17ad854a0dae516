"""What the ways to wire an algorithm into a model by hooks share: coefficients, passes, and what hooks are given."""

import threading
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm
from ..networks.coefficients import REWIRED, Coefficients, Values
from ..networks.memory.choice import Memory

Pass = TypeVar("Pass")


class Wired(Generic[Pass]):
    """An algorithm that hooks run in a model; learnable coefficients are parameters of the first wired module.

    What it knows between the hooks of one forward pass is a `Pass`; each thread has its own.
    """

    memory: Memory = "store"
    """What the layers keep for the backward pass."""
    exact: bool | None = None
    """Whether states are kept to the last bit where layers run backwards; None where rounding decides."""

    def __init__(self, algorithm: Algorithm, names: list[str], first: nn.Module) -> None:
        self.algorithm, self.names, self.first = algorithm, names, first
        self.coefficients = Coefficients(algorithm, len(names))
        self._passes: dict[int | None, Pass] = {}
        self.suspended = False
        """Whether hooks let everything pass, as layers are asked as blocks."""
        self.answered: set[int | None] = set()
        """The threads in which the layer that is called gave what the whole run did."""
        self.asking: int | None = None
        """The branch whose answer is asked for, while hooks add nothing of the others."""
        self.captured: Tensor | None = None
        self.entered = 0
        """The number of the branch that was entered last, while hooks let everything pass."""

    @property
    def current(self) -> Pass | None:
        """The pass that this thread is in; None between two of them."""
        return self._passes.get(this_thread())

    @property
    def is_answered(self) -> bool:
        """Whether the layer that is called in this thread gave what the whole run did."""
        return this_thread() in self.answered

    def begin(self, this: Pass) -> None:
        """A pass begins in this thread; one that did not come to its end is forgotten."""
        self._passes[this_thread()] = this

    def end(self) -> None:
        """The pass of this thread is at its end."""
        self._passes.pop(this_thread(), None)

    def register(self) -> None:
        """Put the learnable coefficients into the first module."""
        like = next(self.first.parameters())
        for name, vector in self.coefficients.initial().items():
            like_first = vector.detach().to(like.device, like.dtype if like.is_floating_point() else vector.dtype)
            self.first.register_parameter(_parameter_name(name), nn.Parameter(like_first))

    def unregister(self) -> None:
        """Take the learnable coefficients out of the first module."""
        for name in self.coefficients.learnable:
            delattr(self.first, _parameter_name(name))

    def learned(self) -> Algorithm:
        """The algorithm with the current values of its coefficients as numbers."""
        return self.coefficients.learned(self._vectors())

    def project(self) -> None:
        """Bring the learnable coefficients back within their bounds."""
        self.coefficients.project(self._vectors())

    def values(self, query: Tensor) -> Values:
        """The tables of the coefficients for states like a query."""
        if not self.coefficients.names:
            return {}
        if self.first.training and not is_traced():
            self.project()
        return self.coefficients.values(self._vectors(), query, self.first.training)

    def _vectors(self) -> dict[str, Tensor]:
        return {name: getattr(self.first, _parameter_name(name)) for name in self.coefficients.learnable}


def this_thread() -> int | None:
    """The number of this thread; None while calls are recorded."""
    return None if is_traced() else threading.get_ident()  # compilers do not know the latter, and run in one thread


def is_traced() -> bool:
    """Whether calls are recorded, to be run again: no checks of the example then, no writing into parameters."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors among the arguments of a call."""
    return [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]


def named_tensors(args: tuple[Any, ...], kwargs: dict[str, Any], parameters: list[str]) -> dict[str, Tensor]:
    """The tensors among the arguments of a call by the names of the parameters, or their places beyond; in order."""
    places = [*parameters[: len(args)], *map(str, range(len(parameters), len(args)))]
    arguments = {**dict(zip(places, args, strict=True)), **{n: kwargs[n] for n in parameters if n in kwargs}, **kwargs}
    return {name: value for name, value in arguments.items() if isinstance(value, Tensor)}


def first_tensor(output: Any) -> tuple[Any, bool]:
    """What stands first in a module's output, and whether there is more: transformers return (hidden, ...)."""
    several = isinstance(output, tuple | list)
    return (output[0] if several and output else output), several


def with_first(output: Any, tensor: Tensor) -> Any:
    """A module's output with another first tensor."""
    if not isinstance(output, tuple | list):
        return tensor
    outputs = [tensor, *output[1:]]
    return type(output)(*outputs) if hasattr(output, "_fields") else type(output)(outputs)


def _parameter_name(coefficient: str) -> str:
    return f"{REWIRED}{coefficient}"

"""What the ways to wire an algorithm into a model by hooks share: its coefficients, and what hooks are given."""

from typing import Any

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm
from ..networks.coefficients import Coefficients, Values


class Wired:
    """An algorithm that hooks run in a model; learnable coefficients are parameters of the first wired module."""

    def __init__(self, algorithm: Algorithm, names: list[str], first: nn.Module) -> None:
        self.algorithm, self.names, self.first = algorithm, names, first
        self.coefficients = Coefficients(algorithm, len(names))

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


def is_traced() -> bool:
    """Whether calls are recorded, to be run again: no checks of the example then, no writing into parameters."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors among the arguments of a call."""
    return [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]


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
    return f"rewired_{coefficient}"

"""The base class of every first-order algorithm."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, dataclass_transform

from .._support.errors import WrongTypeError
from ._coefficient import Coefficient, Constant, Drawn, Learnable, Table, as_coefficient, as_table, in_floats

# How the names of oracles mostly begin: in another place such a name is a mistake.
_ORACLES = ("gradient", "prox", "normalize")


@dataclass_transform(frozen_default=True)
@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A first-order method: `start`, `step`, `read`, and named coefficients.

    A subclass is a frozen dataclass without being marked as one. Fields annotated `Coefficient` are given
    as a number, a function of k or a `Learnable`, and called with k: `self.step_size(k)`.

    The state is a tensor or a tuple of tensors, nested if need be. `step` adds states and answers and
    multiplies them by coefficients, nothing else: it runs on tensors and on symbols, and must not ask which.
    Its first parameter is the state and its last the number of the step, whatever they are called. Those between
    name the oracles, as `gradient, prox` or `gradient_f, gradient_g`: one whose name begins with `prox` takes a point
    and a step size, any other one takes a point. One whose name begins with `normalize` is a map oracle: a known
    nonlinear map of a part of the state, which answers as it is, no gradient.
    """

    references: ClassVar[tuple[str, ...]] = ()
    """The algorithm's sources, as keys into references.bib."""

    oracles: ClassVar[tuple[str, ...]] = ()
    """The names of the oracles, read off the signature of `step`."""

    endless: ClassVar[bool] = False
    """Whether a step that uses its number itself is defined at every number, beyond the depth of any network."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in cls.__dict__.items():
            is_meant_as_field = isinstance(value, Learnable) or (
                name in ("step_size", "momentum") and isinstance(value, Real)
            )
            if is_meant_as_field and name not in inspect.get_annotations(cls):
                raise WrongTypeError(
                    f"{cls.__name__}.{name} has no annotation, so it is no field; "
                    f"write `{name}: mm.Coefficient = {value}`."
                )
        dataclasses.dataclass(frozen=True)(cls)
        if "step" in cls.__dict__:
            cls.oracles = _oracles(cls)

    def __post_init__(self) -> None:
        if not self.oracles:
            raise WrongTypeError(f"{type(self).__name__} has no method step(self, state, gradient, k).")
        for name in self.coefficient_names():
            value = as_coefficient(f"{type(self).__name__}.{name}", getattr(self, name))
            object.__setattr__(self, name, value)
            if isinstance(value, Constant):
                self.table(name, 0)

    def _no_start(self, *inputs: Any) -> Any:
        raise WrongTypeError(f"{type(self).__name__} has no method start(self, x).")

    # The names and number of inputs and oracles are the subclass's own.
    start: ClassVar[Callable[..., Any]] = _no_start
    """start(x): the first state, from the input x; start(x, velocity) from two inputs, a stage's stem giving both."""
    step: ClassVar[Callable[..., Any]]
    """step(state, gradient, k): the state after step k, counted from 0."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of what `start` takes; the first is the input of the network's own."""
        return tuple(inspect.signature(self.start).parameters)

    def start_alone(self, x: Any) -> Any:
        """The first state from the input x, where whatever else `start` takes is zero."""
        return self.start(x, *[0 * x for _ in self.inputs[1:]])

    def shape(self, name: str, k: int) -> tuple[int, ...]:
        """The shape of a coefficient's table at step k: () for a scalar, as all are unless a subclass says otherwise.

        The tables of a coefficient may differ in their sizes by step, not in how many dimensions they have.
        """
        return ()

    def table(self, name: str, k: int) -> Table:
        """A coefficient at step k as a table of its shape; a scalar that was given stands in every entry."""
        return as_table(f"{type(self).__name__}.{name}", getattr(self, name)(k), self.shape(name, k))

    def read(self, state: Any) -> Any:
        """The output, from the last state."""
        raise WrongTypeError(f"{type(self).__name__} has no method read(self, state).")

    @classmethod
    def coefficient_names(cls) -> tuple[str, ...]:
        """The fields annotated `Coefficient`, in order."""
        return tuple(field.name for field in dataclasses.fields(cls) if _is_coefficient(field.type))

    def coefficients(self) -> dict[str, Callable[[int], Any]]:
        """Each coefficient as a function of k, by name."""
        return {name: getattr(self, name) for name in self.coefficient_names()}

    def learnable(self) -> dict[str, Learnable]:
        """The coefficients that are trained, by name."""
        return {name: c for name, c in self.coefficients().items() if isinstance(c, Learnable)}

    def drawn(self) -> dict[str, Drawn]:
        """The coefficients that are drawn for each sample in training, by name."""
        return {name: c for name, c in self.coefficients().items() if isinstance(c, Drawn)}

    def rebind(self, **coefficients: Any) -> "Algorithm":
        """A copy of the algorithm with other coefficients."""
        return dataclasses.replace(self, **coefficients)

    def in_floats(self) -> "Algorithm":
        """The algorithm with floats in the place of fractions, which tensors and arrays cannot be multiplied by."""
        return dataclasses.replace(self, **{f.name: in_floats(getattr(self, f.name)) for f in dataclasses.fields(self)})

    @classmethod
    def name(cls) -> str:
        """The registry's name: the class name in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()


def _is_coefficient(annotation: Any) -> bool:
    # A string under `from __future__ import annotations`, where its names may be out of reach.
    if isinstance(annotation, str):
        return annotation.rpartition(".")[2] == "Coefficient"
    return annotation is Coefficient


def is_proximal(oracle: str) -> bool:
    """Whether an oracle is asked for a proximal step, as its name begins with `prox`; all others give gradients."""
    return oracle.startswith("prox")


def is_map(oracle: str) -> bool:
    """Whether an oracle is a known map of a part of the state, as its name begins with `normalize`."""
    return oracle.startswith("normalize")


def _oracles(cls: type[Algorithm]) -> tuple[str, ...]:
    """The names of the oracles: the parameters of `step` between the state and the step's number."""
    parameters = list(inspect.signature(cls.step).parameters.values())
    names = [parameter.name for parameter in parameters]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if (
        len(names) < 4
        or any(parameter.kind not in positional for parameter in parameters)
        or any(name.startswith(_ORACLES) for name in (names[1], names[-1]))
    ):
        raise WrongTypeError(
            f"{cls.__name__}.step takes ({', '.join(map(str, parameters))}); expected (self, state, gradient, k): the "
            "state first, the step's number last, under any names, and one parameter per oracle between them."
        )
    return tuple(names[2:-1])

"""The solver that a person named."""

from typing import Any

from .._support.errors import WrongTypeError, unknown_name
from ..algorithms import ALGORITHMS, Algorithm
from .solver import SOLVERS, Solver
from .solvers.stepped import Stepped


def as_solver(value: Any) -> Solver:
    """The solver that `value` stands for: itself, its class, an algorithm, or a name such as "anderson(max_steps=30)".

    Raises:
        MinimandError: an unknown name. WrongTypeError: something that is neither.
    """
    if isinstance(value, Solver):
        return value
    if isinstance(value, type) and issubclass(value, Solver):
        return value()
    if isinstance(value, str):
        name = value.partition("(")[0].strip()
        if name in SOLVERS:
            return SOLVERS.make(value)
        names = {*SOLVERS, *ALGORITHMS}
        if name.isidentifier() and name not in names:
            raise unknown_name("solver or algorithm", name, names)
    if isinstance(value, str | Algorithm) or (isinstance(value, type) and issubclass(value, Algorithm)):
        return Stepped(value)
    raise WrongTypeError(
        f"solver is {value!r}; expected mm.Anderson(), mm.Broyden(), mm.FixedPoint(), or an algorithm such as "
        "mm.algorithms.HeavyBall()."
    )

"""The first velocity of methods that carry one."""

from typing import Any, Literal, get_args

from .._support.errors import unknown_name

FirstVelocity = Literal["own", "zero", "input"]
"""The velocity that a network starts with: a second input of its own, zero, or the input."""


def check_first_velocity(name: str, value: Any) -> None:
    """Raise MinimandError unless the value is a first velocity."""
    if value not in get_args(FirstVelocity):
        raise unknown_name(name, str(value), get_args(FirstVelocity))


def inputs_of(first_velocity: FirstVelocity) -> tuple[str, ...]:
    """The inputs of a method with such a first velocity."""
    return ("x", "velocity") if first_velocity == "own" else ("x",)


def with_velocity(first_velocity: FirstVelocity, x: Any, velocity: Any) -> Any:
    """The first state (x, velocity), as the option `first_velocity` says."""
    return x, {"own": velocity, "zero": 0 * x, "input": x}[first_velocity]

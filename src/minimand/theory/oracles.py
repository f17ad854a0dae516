"""An algorithm's steps asked with symbols: the atoms of inputs and answers, and oracles that answer with them."""

from collections.abc import Callable
from numbers import Integral
from typing import Any, Literal, NamedTuple

from .._support.errors import MinimandError, WrongTypeError, unknown_name
from ..algorithms import Algorithm, Read, Schedule, each_entry, is_map, is_proximal, leaves
from .scalars import Number
from .symbols import Combination, NonlinearStepError

AlgorithmLike = Algorithm | type[Algorithm] | str
"""An algorithm, its class, or its name, `"heavy_ball(momentum=0.9)"`; learnable coefficients count as they are now."""

Binding = Literal["residual", "operator"]
"""How a block T becomes a gradient: gradient(x) = -T(x), or gradient(x) = x - T(x)."""

BINDINGS: tuple[Binding, ...] = ("residual", "operator")


class Answer(NamedTuple):
    """The atom that stands for one answer of one oracle."""

    layer: int
    oracle: str
    call: int

    def __str__(self) -> str:
        return f"{self.oracle}[{self.layer}]" + "'" * self.call


INPUT = "x"
"""The atom that stands for the input; a second one has the atom of its name."""


def first_state(algorithm: Algorithm) -> Any:
    """The state that an algorithm starts with, from an atom for each of its inputs."""
    return guarded(algorithm, algorithm.start, *map(Combination.atom, input_atoms(algorithm)))


def input_atoms(algorithm: Algorithm) -> list[str]:
    """The atoms of an algorithm's inputs: `INPUT`, and of the others their names."""
    return [INPUT, *(name if name != INPUT else f"{INPUT}'" for name in algorithm.inputs[1:])]


def exactly(algorithm: Algorithm) -> Algorithm:
    """The algorithm with coefficients that give exact numbers; learnable ones have their initial value."""

    def exact(coefficient: Callable[[int], Any]) -> Read:
        return Read(lambda k: each_entry(Number.of, coefficient(k)))

    return algorithm.rebind(**{name: exact(c) for name, c in algorithm.coefficients().items()})


def symbolic_oracles(
    algorithm: Algorithm, k: int, binding: Binding | None, record: Callable[[Answer, Combination], None]
) -> list[Callable[..., Combination]]:
    """The oracles of step k on symbols; `record` is called with every answer and the point that it was asked at."""

    def oracle(name: str) -> Callable[..., Combination]:
        calls = 0

        def ask(point: Any, step_size: Any = None) -> Combination:
            nonlocal calls
            if not isinstance(point, Combination):
                raise WrongTypeError(f"{type(algorithm).__name__}.step asks {name} at a {type(point).__name__}")
            answer = Answer(k, name, calls)
            calls += 1
            atom = Combination.atom(answer)
            if is_proximal(name):
                if step_size is None:
                    raise WrongTypeError(f"{type(algorithm).__name__}.step asks {name} without a step size.")
                # p = point - s a, where a is the answer at p itself.
                s = Number.of(step_size)
                p = point - s * atom if binding is None else point + s * atom
                if binding == "operator":
                    p = p / (1 + s)
                record(answer, p)
                return p
            record(answer, point)
            if is_map(name):
                return atom
            return {None: atom, "residual": -atom, "operator": point - atom}[binding]

        return ask

    return [oracle(name) for name in algorithm.oracles]


class DivisionByZeroError(MinimandError):
    """A step that divides by 0 with the coefficients that it has."""


def guarded(algorithm: Algorithm, part: Callable[..., Any], *arguments: Any) -> Any:
    """Call a part of the algorithm on symbols; an error says whose part it is."""
    name = getattr(part, "__name__", "step")
    try:
        value = part(*arguments)
    except NonlinearStepError as error:
        raise NonlinearStepError(f"{type(algorithm).__name__}: the {name} is {error}") from None
    except ZeroDivisionError as error:
        raise DivisionByZeroError(f"{type(algorithm).__name__}: the {name} divides by 0.") from error
    if not leaves(value) or not all(isinstance(leaf, Combination) for leaf in leaves(value)):
        raise WrongTypeError(
            f"{type(algorithm).__name__}.{name} returned {value!r}; expected a tensor made from the state, or a tuple "
            "of such (0 * x is a tensor of zeros)."
        )
    return value


def extended(algorithm: Algorithm, depth: int) -> Algorithm:
    """The algorithm with schedules that go on with their last value where they end with a network of this depth."""

    def extend(schedule: Schedule) -> Read:
        def value(k: int) -> Any:
            for i in range(k, depth - 1, -1):
                try:
                    return schedule(i)
                except (TypeError, ValueError):
                    continue
            return schedule(min(k, depth - 1))

        return Read(value)

    schedules = {name: c for name, c in algorithm.coefficients().items() if isinstance(c, Schedule)}
    return algorithm.rebind(**{name: extend(c) for name, c in schedules.items()})


def check_depth(depth: int) -> None:
    """Raise MinimandError unless a depth is a whole number of layers, at least one."""
    check_count("depth", depth)


def check_count(name: str, count: int) -> None:
    """Raise MinimandError unless the count of this name is a whole number, at least one."""
    if isinstance(count, bool) or not isinstance(count, Integral):
        raise WrongTypeError(f"{name} is {count!r}; expected a whole number.")
    if count < 1:
        raise MinimandError(f"{name} is {count}; expected at least 1.")


def check_binding(binding: Any) -> None:
    """Raise MinimandError unless the binding is one."""
    if binding is not None and binding not in BINDINGS:
        raise unknown_name("binding", str(binding), BINDINGS)

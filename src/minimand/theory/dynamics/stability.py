"""Zero-stability and order: what an algorithm is as a numerical method for x' = -gradient(x)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import factorial, prod

from ..scalars import TOLERANCE, short_text, sum_text
from ..steps import Steps
from .linear_system import LinearSystem, Pole, exact_matrix, fractions, is_root_bounded, over_a_period, system_of
from .response import growth, smallest_gain

# How much further than the depth the steps are looked at, where there are more of them, and how far at most.
_HORIZON, _FAR = 4, 200

Tree = tuple["Tree", ...]
"""A rooted tree: the subtrees at its root."""


@dataclass(frozen=True)
class Tail:
    """The steps from `begins` on, which repeat with a period: 1 where all of them are the same linear system."""

    begins: int
    system: LinearSystem
    """The minimal realization of the steps of a period, as one step."""
    period: int
    oracles: tuple[str, ...]
    """The oracles that a period asks, in their order."""


def horizon(steps: Steps, depth: int) -> int:
    """The number of steps that a verdict on a network looks at: beyond its depth only where there are any."""
    return steps.reach(depth, max(depth, min(_HORIZON * depth, _FAR)))


def tail(steps: Steps, depth: int) -> Tail | None:
    """The repeating steps that an algorithm ends in; None where there are none, or memory grows."""
    if steps.grows:
        return None
    systems: dict[int, LinearSystem | None] = {}
    numbers: dict[LinearSystem | None, int] = {}
    labels = []
    for k in range(horizon(steps, depth)):
        step = steps[k]
        if id(step) not in systems:
            systems[id(step)] = system_of(steps, step)
        labels.append(numbers.setdefault(systems[id(step)], len(numbers)))
    repetition = _repetition(labels)
    if repetition is None:
        return None
    begins, period = repetition
    repeated = [systems[id(steps[k])] for k in range(begins, begins + period)]
    several = [system for system in repeated if system is not None]
    if len(several) < period or not any(system.D for system in several):
        return None
    oracles = tuple(answer.oracle for k in range(begins, begins + period) for answer in steps[k].answers)
    return Tail(begins, (several[0] if period == 1 else over_a_period(several)).minimal, period, oracles)


def _repetition(labels: Sequence[int]) -> tuple[int, int] | None:
    """From where on labels repeat, and the period: the shortest that is seen twice and in half of them at least."""
    n = len(labels)
    if n == 1:
        return 0, 1
    for period in range(1, n // 2 + 1):
        begins = next((k + 1 for k in reversed(range(n - period)) if labels[k] != labels[k + period]), 0)
        if begins <= n // 2 and begins + 2 * period <= n:
            return begins, period
    return None


@dataclass(frozen=True)
class Stability:
    """Whether perturbations of the answers stay bounded at any depth; None where that is not defined."""

    stable: bool | None
    reason: str
    bound: float | None = None
    """The growth that was measured, where the verdict is numerical."""


def zero_stability(steps: Steps, depth: int, constant: Tail | None) -> Stability:
    """The root condition where the steps repeat; else whether the growth of responses comes to an end."""
    if constant is not None:
        poles = constant.system.poles
        stable = is_root_bounded(poles)
        shown = ", ".join(_complex(p.value) + (f" (x{p.multiplicity})" if p.multiplicity > 1 else "") for p in poles)
        where = "" if constant.period == 1 else f" over {constant.period} steps"
        where += "" if constant.begins == 0 else f" from step {constant.begins} on"
        condition = "inside the unit disc, or simple on the circle" if stable else "the root condition fails"
        return Stability(stable, f"poles {shown}{where}: {condition}")
    depths = _doubling(horizon(steps, depth))
    sizes = growth(steps, depths)
    stable = _comes_to_an_end(sizes)
    reason = f"numerically: the largest response is {_listed(sizes)} over {_listed(depths)} steps, " + (
        "and comes to an end" if stable else "and goes on growing"
    )
    return Stability(stable, reason, bound=sizes[-1])


def lasting_gains(steps: Steps, depth: int) -> tuple[bool, str]:
    """Whether the smallest gain stays away from 0 as depth grows, measured, and what was measured."""
    depths = _doubling(horizon(steps, depth))
    smallest = [smallest_gain(steps, d) for d in depths]
    lasting = min(smallest) > TOLERANCE and _comes_to_an_end([1 / gain for gain in smallest])
    bounded = "it stays away from 0" if lasting else "it is not bounded from below"
    return lasting, f"numerically: the smallest gain is {_listed(smallest)} over {_listed(depths)} layers: {bounded}"


def _doubling(depth: int) -> list[int]:
    return sorted({max(depth // 4, 1), max(depth // 2, 1), depth})


def _comes_to_an_end(sizes: Sequence[float]) -> bool:
    """Whether sizes at doubled depths approach a limit: what grows like a power or a logarithm keeps its increments."""
    if len(sizes) < 3:
        return sizes[-1] <= 1.5 * sizes[0]
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    return math.isfinite(sizes[-1]) and (sizes[2] <= 1.01 * sizes[1] or second < 0.75 * first)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


@dataclass(frozen=True)
class Order:
    """The order of accuracy for x' = -gradient(x) once time is rescaled by `speed`; None where there is none."""

    order: int | None
    reason: str
    speed: Fraction | None = None
    second_order: int | None = None
    """The order for x'' = -gradient(x), where there is a double pole at 1."""
    error_constant: Fraction | None = None
    """The C of the local error C h^(p+1) x^(p+1), h the step in rescaled time; None where it is no single number."""


def order(constant: Tail | None) -> Order:
    """The order of the linear multistep, or of the Runge-Kutta, method that the queries of the last steps follow."""
    if constant is None:
        return Order(None, "not defined: the coefficients vary with depth, or memory grows")
    if len(constant.oracles) > 1:
        return _order_of_several(constant)
    multistep = constant.system.multistep
    assert multistep is not None  # steps with several answers went another way above
    rho, sigma = multistep
    size = max(map(abs, sigma))
    sigma = [c / size for c in sigma] if size else sigma  # so that what counts as 0 does not depend on step sizes
    zero = _zero_of(constant.system)
    if not any(sigma):
        return Order(None, "sigma = 0: gradients move nothing")
    if not zero(_moment(rho, 0)):
        return Order(None, "no pole at 1 in what answers reach: a constant drift is forgotten")
    if zero(_moment(sigma, 0)):
        return Order(None, "sigma(1) = 0: a constant gradient moves nothing")
    slope = _moment(rho, 1)
    if zero(slope):
        if zero(_moment(rho, 2)):
            return Order(None, "a pole at 1 of multiplicity above 2")
        p = _order(rho, sigma, 2, zero)
        return Order(None, f"a double pole at 1: a method for x'' = -gradient(x), of order {p}", second_order=p)
    speed = size * _moment(sigma, 0) / slope
    p = _order(rho, sigma, 1, zero)
    # rho(e^h) / rho'(1) - h sigma(e^h) / sigma(1) = C h^(p+1) + ... (Hairer, Norsett & Wanner, III.2)
    constant_of = _moment(rho, p + 1) / factorial(p + 1) / slope
    constant_of -= _moment(sigma, p) / factorial(p) / _moment(sigma, 0)
    return Order(p, _in_words(speed, constant_of), speed, error_constant=constant_of)


def is_root_bounded_but_at_one(poles: Sequence[Pole]) -> bool:
    """The root condition for x'' = -gradient(x): a double pole at 1, all others as for a first-order equation."""
    others = [pole for pole in poles if abs(pole.value - 1) > TOLERANCE]
    return is_root_bounded(others) and sum(p.multiplicity for p in poles if p not in others) == 2


def _order_of_several(constant: Tail) -> Order:
    from sympy.polys.matrices import DomainMatrix

    system, oracles = constant.system, constant.oracles
    A = exact_matrix(system.A)
    moved = A - DomainMatrix.eye(system.size, A.domain)
    at_rest, conserved = moved.to_dense().nullspace().transpose(), moved.transpose().to_dense().nullspace()
    if at_rest.shape[1] == 0:
        return Order(None, "no pole at 1 in what answers reach: a constant drift is forgotten")
    if at_rest.shape[1] > 1 or (conserved * at_rest).is_zero_matrix:
        return Order(None, "the pole at 1 is not simple")
    # What a constant answer adds to the output in each step, once the other poles have died out.
    drift = (exact_matrix(system.read) * at_rest) * (conserved * at_rest).inv() * (conserved * exact_matrix(system.B))
    speeds = [-speed for speed in fractions(drift)[0]]
    speed = sum(speeds, Fraction(0))
    named = {name: sum((v for v, n in zip(speeds, oracles, strict=True) if n == name), Fraction(0)) for name in oracles}
    follows = "follows x' = " + sum_text([(-v, name) for name, v in named.items()])
    if not any(speeds) or _zero_of(system)(speed / max(map(abs, speeds))):
        return Order(None, f"{follows}: equal gradients move nothing")
    if len(named) > 1:
        return Order(None, f"several oracles; {follows}", speed)
    if system.size > 1:
        return Order(None, f"a step with memory asks for several answers; {follows}", speed)
    # Time in units of the speed; the state in units of the output.
    stages = [[-entry / speed for entry in row] for row in system.D]
    weights = [v / speed for v in speeds]
    p = _runge_kutta_order(stages, weights, _zero_of(system))
    # Of x' = mu x, whose trees are the tall ones: others have other constants.
    tall: Tree = ()
    for _ in range(p):
        tall = (tall,)
    constant_of = Fraction(1, factorial(p + 1)) - _dot(weights, _weights(tall, stages))
    return Order(p, _in_words(speed, constant_of, " on x' = mu x"), speed, error_constant=constant_of)


def _order(
    rho: Sequence[Fraction], sigma: Sequence[Fraction], derivative: int, zero: Callable[[Fraction], bool]
) -> int:
    """The largest p with rho(e^h) - h^d sigma(e^h) / c = O(h^(p + d)), d the derivative."""
    scale = _moment(rho, derivative) / factorial(derivative) / _moment(sigma, 0)
    q = derivative
    while zero(_moment(rho, q) / factorial(q) - scale * _moment(sigma, q - derivative) / factorial(q - derivative)):
        q += 1
    return q - derivative


def _moment(coefficients: Sequence[Fraction], q: int) -> Fraction:
    return sum((c * i**q for i, c in enumerate(reversed(coefficients))), Fraction(0))


def _zero_of(system: LinearSystem) -> Callable[[Fraction], bool]:
    """The test for zero: 0 alone where the coefficients are exact, else what is within the tolerance."""
    return lambda value: abs(value) <= (0 if system.exact else TOLERANCE)


def _rescaling(speed: Fraction) -> str:
    return "" if speed == 1 else f"after time is rescaled by {short_text(speed)}"


def _in_words(speed: Fraction, error_constant: Fraction, where: str = "") -> str:
    return "; ".join(filter(None, (_rescaling(speed), f"error constant {short_text(error_constant)}{where}")))


def _complex(value: complex) -> str:
    return f"{value.real:.4g}" + ("" if abs(value.imag) < TOLERANCE else f"{value.imag:+.4g}i")


def _runge_kutta_order(
    a: Sequence[Sequence[Fraction]], b: Sequence[Fraction], is_zero: Callable[[Fraction], bool]
) -> int:
    """The largest p for which every tree t of at most p vertices has b . weights(t) = 1 / density(t).

    The queries read the answers of their step by a, (stages, stages), the new state by b, (stages,), of sum 1.
    (Hairer, Norsett & Wanner, II.2)
    """
    p = 0
    # No explicit method of s stages exceeds order s, and an implicit one never 2 s.
    while p < 2 * len(b):
        for tree in trees(p + 1):
            if not is_zero(_dot(b, _weights(tree, a)) - 1 / density(tree)):
                return p
        p += 1
    return p


def _weights(tree: Tree, a: Sequence[Sequence[Fraction]]) -> list[Fraction]:
    """The elementary weight of a tree at each stage."""
    below = [_weights(subtree, a) for subtree in tree]
    return [prod((_dot(row, weights) for weights in below), start=Fraction(1)) for row in a]


def _dot(row: Sequence[Fraction], weights: Sequence[Fraction]) -> Fraction:
    return sum((c * w for c, w in zip(row, weights, strict=True)), Fraction(0))


def _size(tree: Tree) -> int:
    return 1 + sum(map(_size, tree))


def density(tree: Tree) -> Fraction:
    """The density of a tree: the product, over its vertices, of how many there are from each on."""
    return Fraction(_size(tree)) * prod(map(density, tree), start=Fraction(1))


@cache
def trees(vertices: int) -> tuple[Tree, ...]:
    """Every rooted tree with so many vertices, once."""
    return tuple(_forests(vertices - 1, vertices - 1))


def _forests(vertices: int, largest: int) -> Iterator[Tree]:
    """Every multiset of trees with so many vertices in all, none above `largest`."""
    if vertices == 0:
        yield ()
    for size in range(min(largest, vertices), 0, -1):
        for i, tree in enumerate(trees(size)):
            for smaller in _forests(vertices - size, size):
                # Of equal size in the order of the list, so that none comes twice.
                if not smaller or _size(smaller[0]) < size or trees(size).index(smaller[0]) >= i:
                    yield (tree, *smaller)

"""The limit of second order in time: methods whose momentum approaches 1."""

from fractions import Fraction
from itertools import pairwise

from ..scalars import TOLERANCE
from ..steps import Steps
from .linear_system import system_of

_FAR_STEPS = (500, 1000, 2000)
_AGREEMENT = 0.1  # up to which what is measured at three steps counts as one limit


def friction(steps: Steps, depth: int) -> float | None:
    """The c > 0 of x'' + (c/t) x' = -gradient(x), the limit of steps whose second pole approaches 1 like 1 - c/k.

    It is measured on (rho, sigma) without common factors, at steps far beyond the depth where there are any, else at
    those of the network. None where there is no such limit: another number of poles, a first one that is not 1, a
    friction of the wrong sign or of another law, or a sigma(1), what a constant gradient moves, that fades or grows.
    """
    numbers = _FAR_STEPS if steps.goes_on(depth) else (depth // 4, depth // 2, depth - 1)
    if steps.grows or len(set(numbers)) < 3:
        return None
    measured = [_second_pole(steps, k) for k in numbers]
    several = [m for m in measured if m is not None]
    if len(several) < 3:
        return None
    pushes = [push for _, push in several]
    if not all(abs(b - a) < _AGREEMENT * abs(b) for a, b in pairwise(pushes)):
        return None
    # 1 - pole = c / (k + d), whatever d is.
    (k1, k2, k3), (e1, e2, e3) = numbers, (1 / away for away, _ in several)
    if e1 == e2 or e2 == e3:
        return None
    early, late = (k2 - k1) / (e2 - e1), (k3 - k2) / (e3 - e2)
    return late if late > TOLERANCE and abs(late - early) < _AGREEMENT * late else None


def _second_pole(steps: Steps, k: int) -> tuple[float, float] | None:
    """How far the second of two poles of step k is from 1, where the first is 1; and sigma(1)."""
    system = system_of(steps, steps.alone(k))
    multistep = None if system is None else system.minimal.multistep
    if multistep is None or len(multistep[0]) != 3:
        return None
    rho, sigma = multistep
    away = 1 - rho[2]  # the product of the poles
    size = sum((abs(c) for c in sigma), Fraction(0))
    if abs(sum(rho)) > TOLERANCE * abs(away) or not away or abs(sum(sigma)) <= TOLERANCE * size:
        return None
    return float(away), float(sum(sigma))

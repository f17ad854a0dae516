"""What an algorithm is: the known ones, with their coefficients, that it is the same network as."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..._support.errors import MinimandError
from ...algorithms import ALGORITHMS, Algorithm, as_algorithm
from ...algorithms.integrators.linear_multistep import LinearMultistep
from ...algorithms.integrators.runge_kutta import RungeKutta
from ..dynamics.response import response
from ..dynamics.stability import tail
from ..oracles import AlgorithmLike, check_depth
from ..steps import Steps
from .alignment import interface
from .equivalence import Equivalence, compare


@dataclass(frozen=True)
class Identification:
    """The known algorithms that an algorithm is, the plainest first; false if it is none of them."""

    algorithm: Algorithm | None
    matches: tuple[Equivalence, ...]

    def __bool__(self) -> bool:
        return self.algorithm is not None

    def __str__(self) -> str:
        if not self.matches:
            return f"none of the {len(ALGORITHMS)} known algorithms"
        return "\n".join(map(str, self.matches))


def identify(algorithm: AlgorithmLike, depth: int = 32) -> Identification:
    """Name the known algorithm, with its numbers, that this one is.

    The constant coefficients and the other numbers of every built-in algorithm are fitted to the kernel of the first
    layers, rounded to nearby fractions, and compared over `depth` layers, but over 64 at most where one of the two
    keeps all answers; linear multistep and Runge-Kutta methods are read off the steps. The plainest comes first: of a
    state that does not grow, and of the fewest numbers.
    """
    check_depth(depth)
    algorithm = as_algorithm(algorithm)
    steps = Steps(algorithm)
    matches: list[tuple[Algorithm, Equivalence, bool, int]] = []
    for cls in ALGORITHMS.values():
        for candidate, numbers in _candidates(cls, algorithm, steps, depth):
            own = Steps(candidate)
            # Comparing over all layers would take too long; the line of the match says over how many it was.
            layers = min(depth, _GROWING_LAYERS) if own.grows or steps.grows else depth
            match = compare(algorithm, candidate, steps, own, layers)
            if match:
                matches.append((candidate, match, own.grows, numbers))
                break
    matches.sort(key=lambda entry: (entry[1].relation != "identical", *entry[2:]))
    return Identification(matches[0][0] if matches else None, tuple(entry[1] for entry in matches))


def _candidates(cls: type[Algorithm], target: Algorithm, steps: Steps, depth: int) -> Iterator[tuple[Algorithm, int]]:
    """Algorithms of a class that may be the target, each with how many numbers it has."""
    if type(target) is cls:
        yield target, len(_numbers(cls))
    elif cls in (LinearMultistep, RungeKutta):
        exact = _multistep(steps, depth) if cls is LinearMultistep else _runge_kutta(steps, depth)
        if exact is not None:
            yield exact
    else:
        # A cap may be reached only after the first layers.
        for layers in sorted({min(_FITTED_LAYERS, depth), min(_MORE_LAYERS, depth)}):
            try:
                fitted = _fit(cls, target, layers)
            except MinimandError:  # an algorithm of another package may refuse numbers that are tried
                return
            if fitted is None:
                return
            yield fitted, len(_numbers(cls))


_FITTED_LAYERS, _MORE_LAYERS = 6, 32
_FITTING_STEPS = 40  # a fit that gets anywhere gets there in a third of them
_GROWING_LAYERS = 64  # over which what keeps all answers is compared: that costs the square of the layers, or the cube
_BOUNDS = {"momentum": (-1.0, 1.0), "sign": (-1.0, 1.0), "cap": (0.0, 1.0), "rate": (0.0, 0.999), "ratio": (1e-6, 1.0)}


def _numbers(cls: type[Algorithm]) -> list[str]:
    """The names of the coefficients and of the other fields that are numbers."""
    fields = [field.name for field in dataclasses.fields(cls) if field.type in (float, "float")]
    return [*cls.coefficient_names(), *fields]


def _fit(cls: type[Algorithm], target: Algorithm, layers: int) -> Algorithm | None:
    from scipy.optimize import least_squares

    default, names = cls(), _numbers(cls)
    if interface(default) != interface(target) or default.drawn():
        return None
    goal = response(target, layers)
    if response(default, layers).shape != goal.shape:
        return None
    bounds = [_BOUNDS.get(name, (-np.inf, np.inf)) for name in names]
    size = max(np.abs(goal[:, 1:]).max(), np.finfo(float).tiny)

    def candidate(values: np.ndarray) -> Algorithm:
        return default.rebind(**{name: float(v) for name, v in zip(names, values, strict=True)})

    def residual(values: np.ndarray, rows: slice = slice(-1)) -> np.ndarray:
        # The last row is the output, which may be read otherwise.
        return ((response(candidate(values), layers) - goal)[rows] / size).ravel()

    def fit(start: Any, rows: slice) -> np.ndarray | None:
        try:
            fitted = least_squares(
                residual,
                start,
                bounds=tuple(zip(*bounds, strict=True)),
                method="dogbox",  # of scipy's methods the one whose results may lie on bounds
                xtol=1e-15,
                ftol=1e-15,
                max_nfev=_FITTING_STEPS,
                args=(rows,),
            )
        except ZeroDivisionError:  # a step that divides by a number which was tried as 0
            return None
        return fitted.x if np.abs(residual(fitted.x, rows)).max() < 1e-7 else None

    coefficients = default.coefficients()
    initial = [float(coefficients[name](0) if name in coefficients else getattr(default, name)) for name in names]
    for start in (initial, [0.3] * len(initial), [0.5] * len(initial)):
        values = fit(start, slice(-1))
        if values is None:
            continue
        # A coefficient may be of the read-out alone.
        reads_alike = np.abs(residual(values, slice(None))).max() < 1e-7
        whole = values if reads_alike else fit(values, slice(None))
        values, rows = (values, slice(-1)) if whole is None else (whole, slice(None))
        simple = (v for v in _simple_values(values) if np.abs(residual(v, rows)).max() < 1e-12)
        return candidate(next(simple, values))
    return None


def _simple_values(values: np.ndarray) -> Iterator[np.ndarray]:
    """The values as simple numbers, and less and less so; what is small beside the others is first taken for 0."""
    for simplest, digits in ((100, 3), (10_000, 7)):
        tolerance = 10.0**-digits
        for noise in (tolerance, 1e-9, 0.0):
            without = np.where(np.abs(values) <= noise * np.abs(values).max(), 0.0, values)
            yield _simplified(without, simplest, tolerance)
        yield np.array([float(f"{v:.{digits}g}") for v in values])


def _simplified(values: np.ndarray, largest_denominator: int, tolerance: float) -> np.ndarray:
    """Each value, or the simple fraction within a relative tolerance of it."""
    simple = np.array([float(Fraction(float(v)).limit_denominator(largest_denominator)) for v in values])
    return np.where(np.abs(simple - values) <= tolerance * np.abs(values), simple, values)


def _multistep(steps: Steps, depth: int) -> tuple[Algorithm, int] | None:
    """The explicit linear multistep method that the queries follow, and how many numbers it has."""
    constant = tail(steps, depth)
    multistep = None if constant is None else constant.system.multistep
    if multistep is None:
        return None
    rho, sigma = (tuple(map(float, polynomial)) for polynomial in multistep)
    order = len(rho) - 1
    if not any(sigma) or not 1 <= len(sigma) <= order:
        return None
    padded = (0.0,) * (order - len(sigma)) + sigma
    return LinearMultistep(rho=rho, sigma=padded), len(rho) + len(padded)


def _runge_kutta(steps: Steps, depth: int) -> tuple[Algorithm, int] | None:
    """The explicit Runge-Kutta method that the steps are, and how many numbers it has."""
    constant = tail(steps, depth)
    if constant is None or constant.period > 1 or constant.system.size != 1 or len(set(constant.oracles)) > 1:
        return None
    system, stages = constant.system, len(constant.oracles)
    readouts, factor_of_state = [row[0] for row in system.C], system.A[0][0]
    if (
        factor_of_state != 1
        or len(set(readouts)) > 1
        or not readouts[0]
        or any(any(row[i:]) for i, row in enumerate(system.D))
    ):
        return None
    weights = [-readouts[0] * c for c in system.B[0]]  # in the units of the queries
    size = sum(weights) or Fraction(1)
    rows = [[-c / size for c in row[:i]] for i, row in enumerate(system.D)][1:]
    tableau = tuple(tuple(map(float, row)) for row in [*rows, [w / size for w in weights]])
    return RungeKutta(step_size=float(size), tableau=tableau), 1 + stages * (stages + 1) // 2

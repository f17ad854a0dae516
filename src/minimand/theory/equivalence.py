"""Which algorithms are the same network in disguise, and how far apart others are."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from ..algorithms import ALGORITHMS, Algorithm, as_algorithm, is_map
from .dynamics.response import response
from .kernel import INPUT, AlgorithmLike, Binding, Kernel, Query, extended, input_atoms, kernel
from .scalars import Number
from .symbols import Combination

Relation = Literal["identical", "up to read-out", "rescaled", "different"]


@dataclass(frozen=True)
class Equivalence:
    """How two algorithms compare as networks; true if they are the same one, read-out aside.

    identical: equal queries and output for all blocks. up to read-out: equal queries. rescaled: equal once the
    blocks of `second` are multiplied by `scale`; that is a different network. different: none of these.
    """

    first: str
    second: str
    relation: Relation
    depth: int
    exact: bool
    """False where the comparison was made to 1e-9, because a coefficient is irrational."""
    scale: float | None = None
    difference: str = ""

    def __bool__(self) -> bool:
        return self.relation in ("identical", "up to read-out")

    def __str__(self) -> str:
        how = {
            "identical": f"is the same network as {self.second}",
            "up to read-out": f"is, up to what is read out, the same network as {self.second}",
            "rescaled": f"is {self.second} with every block multiplied by {self.scale}, which is another network",
            "different": f"is not the same network as {self.second}",
        }[self.relation]
        checked = f"{self.depth} layers, {'exactly' if self.exact else 'to 1e-9'}"
        return f"{self.first} {how} ({checked}{'; ' if self.difference else ''}{self.difference})"


def equivalent(first: AlgorithmLike, second: AlgorithmLike, depth: int = 32) -> Equivalence:
    """Compare two algorithms as networks of `depth` layers, for all blocks and under either binding.

    Example: `mm.equivalent("heavy_ball(step_size=0.1, momentum=0.9)", "momentum_residual(momentum=0.9)")`.
    """
    a, b = as_algorithm(first), as_algorithm(second)
    return _compare(a, b, kernel(a, depth), kernel(b, depth))


def _compare(first: Algorithm, second: Algorithm, a: Kernel, b: Kernel) -> Equivalence:
    exact = a.exact and b.exact

    def as_networks(relation: Relation, scale: float | None = None, difference: str = "") -> Equivalence:
        return Equivalence(str(first), str(second), relation, a.depth, exact, scale, difference)

    pairs = _aligned(first, second, a, b)
    if pairs is None:
        return as_networks("different", difference="their steps ask other oracles")
    *points, outputs = pairs
    different = next((i for i, (p, q) in enumerate(points) if not p.same(q)), None)
    if different is None:
        return as_networks("identical" if outputs[0].same(outputs[1]) else "up to read-out")
    scale = _scale(pairs)
    p, q = points[different]
    difference = f"query {different} is {p} against {q}"
    relation: Relation = "different" if scale is None else "rescaled"
    return as_networks(relation, None if scale is None else float(scale), difference)


def distance(first: AlgorithmLike, second: AlgorithmLike, depth: int = 32, binding: Binding = "residual") -> float:
    """The L1 distance of the kernels of two algorithms over `depth` layers.

    It sums the absolute differences of all coefficients of the queries and of the output: symmetric, within the
    triangle inequality, and 0 where `equivalent` finds the two identical and nowhere else. It is infinite where the
    steps ask other oracles, or one of them more often, for then no coefficients correspond.
    """
    a, b = as_algorithm(first), as_algorithm(second)
    pairs = _aligned(a, b, kernel(a, depth, binding), kernel(b, depth, binding))
    return float("inf") if pairs is None else float(sum(_apart(p, q) for p, q in pairs))


def _apart(p: Combination, q: Combination) -> Fraction:
    pairs = [(p.coefficient(atom), q.coefficient(atom)) for atom in p.terms.keys() | q.terms.keys()]
    return sum((abs((a - b).value) for a, b in pairs if not a.same(b)), Fraction(0))


def _aligned(first: Algorithm, second: Algorithm, a: Kernel, b: Kernel) -> list[tuple[Combination, Combination]] | None:
    """The queries, and last the output, of both kernels in pairs, in the first one's atoms; None if none correspond.

    Oracles correspond by their place in the signature: their names, and the order they are asked in, may differ.
    """
    if _interface(first) != _interface(second):
        return None
    first_queries, second_queries = _by_place(a, first.oracles), _by_place(b, second.oracles)
    if first_queries.keys() != second_queries.keys():
        return None
    atoms: dict[Hashable, Hashable] = dict(zip(input_atoms(second), input_atoms(first), strict=True))
    atoms |= {q.answer: first_queries[place].answer for place, q in second_queries.items()}
    points = [(q.point, _renamed(second_queries[place].point, atoms)) for place, q in first_queries.items()]
    return [*points, (a.output, _renamed(b.output, atoms))]


def _interface(algorithm: Algorithm) -> tuple[int, tuple[bool, ...]]:
    """How many inputs an algorithm takes, and of each oracle whether it is a known map."""
    return len(algorithm.inputs), tuple(map(is_map, algorithm.oracles))


def _by_place(k: Kernel, oracles: tuple[str, ...]) -> dict[tuple[int, int, int], Query]:
    return {(q.answer.layer, oracles.index(q.answer.oracle), q.answer.call): q for q in k.queries}


def _renamed(combination: Combination, atoms: Mapping[Hashable, Hashable]) -> Combination:
    return Combination({atoms.get(atom, atom): c for atom, c in combination.terms.items()})


def _scale(pairs: list[tuple[Combination, Combination]]) -> Fraction | None:
    """The factor by which all coefficients of answers in the first exceed those in the second."""
    scale: Number | None = None
    for p, q in pairs:
        for atom in p.terms.keys() | q.terms.keys():
            left, right = p.coefficient(atom), q.coefficient(atom)
            if atom == INPUT:
                if not left.same(right):
                    return None
                continue
            if scale is None:
                if not right:
                    return None
                scale = left / right
            if not left.same(scale * right):
                return None
    return scale.value if scale else None


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
    """Name the known algorithm, with its coefficients, that this one is.

    The constant coefficients of every built-in algorithm are fitted to the kernel of the first layers, rounded
    to nearby fractions, and compared over `depth` layers.
    """
    algorithm = as_algorithm(algorithm)
    target = kernel(algorithm, depth)
    fitted = extended(algorithm, depth)
    matches: list[tuple[Algorithm, Equivalence]] = []
    for cls in ALGORITHMS.values():
        candidate = algorithm if type(algorithm) is cls else _fit(cls, fitted)
        if candidate is not None:
            match = _compare(algorithm, candidate, target, kernel(candidate, depth))
            if match:
                matches.append((candidate, match))
    matches.sort(key=lambda entry: (entry[1].relation != "identical", len(entry[0].coefficients())))
    return Identification(matches[0][0] if matches else None, tuple(match for _, match in matches))


_FITTED_LAYERS = 6


def _fit(cls: type[Algorithm], target: Algorithm) -> Algorithm | None:
    from scipy.optimize import least_squares

    default = cls()
    names = cls.coefficient_names()
    if _interface(default) != _interface(target) or default.drawn() or any(default.shape(n, 0) for n in names):
        return None
    goal = response(target, _FITTED_LAYERS)
    if response(default, _FITTED_LAYERS).shape != goal.shape:
        return None
    bounds = [(-1.0, 1.0) if name == "momentum" else (-np.inf, np.inf) for name in names]
    size = max(np.abs(goal[:, 1:]).max(), np.finfo(float).tiny)

    def candidate(values: np.ndarray) -> Algorithm:
        return default.rebind(**{name: float(v) for name, v in zip(names, values, strict=True)})

    def residual(values: np.ndarray) -> np.ndarray:
        # The last row is the output, which may be read otherwise.
        return ((response(candidate(values), _FITTED_LAYERS) - goal)[:-1] / size).ravel()

    initial = [float(c(0)) for c in default.coefficients().values()]
    for start in (initial, [0.1] * len(initial), [0.9] * len(initial)):
        fitted = least_squares(residual, start, bounds=tuple(zip(*bounds, strict=True)), xtol=1e-15, ftol=1e-15)
        # The fit comes near a bound but not onto it, so simple numbers nearby are tried first.
        for simple in (_simplified(fitted.x, 100, 1e-3), _simplified(fitted.x, 10_000, 1e-7), fitted.x):
            if np.abs(residual(simple)).max() < 1e-7:
                return candidate(simple)
    return None


def _simplified(values: np.ndarray, largest_denominator: int, tolerance: float) -> np.ndarray:
    """Each value, or the simple fraction within a relative tolerance of it."""
    simple = np.array([float(Fraction(float(v)).limit_denominator(largest_denominator)) for v in values])
    return np.where(np.abs(simple - values) <= tolerance * np.abs(values), simple, values)

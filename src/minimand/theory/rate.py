"""The worst-case convergence rate of an algorithm, by performance estimation (Drori & Teboulle, 2014; PEPit)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Literal, get_args

from .._support.errors import MinimandError, unknown_name
from .._support.extras import require
from ..algorithms import Algorithm, as_algorithm, is_map, is_proximal
from .kernel import INPUT, AlgorithmLike, kernel
from .symbols import Combination

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Measure = Literal["value", "distance", "gradient"]


@dataclass(frozen=True)
class Rate:
    """The worst case over all functions of a class, tight up to the solver's tolerance."""

    algorithm: str
    mu: float
    L: float
    steps: int
    measure: Measure
    terms: int
    """The number of functions that are summed: one for each oracle."""
    bound: float | None
    """The largest of the measure with |x_0 - x*| <= 1; None where the solver found none."""
    status: str
    """The status that the solver reports."""

    @property
    def quantity(self) -> str:
        """The bounded quantity as a formula."""
        return {"value": "f(x_N) - f*", "distance": "|x_N - x*|^2", "gradient": "|grad f(x_N)|^2"}[self.measure]

    @property
    def functions(self) -> str:
        """The class of functions, in words."""
        one = f"{self.L:g}-smooth " + (f"{self.mu:g}-strongly " if self.mu else "") + "convex f"
        return one if self.terms == 1 else f"f a sum of {self.terms}, those with a gradient {one.removesuffix(' f')}"

    def __str__(self) -> str:
        if self.bound is None:
            return f"{self.quantity}: no bound was found for {self.functions}, N = {self.steps} ({self.status})"
        return f"{self.quantity} <= {self.bound:.4g} |x_0 - x*|^2 for {self.functions}, N = {self.steps}"


def rate(
    algorithm: AlgorithmLike, mu: float = 0.0, L: float = 1.0, steps: int = 10, measure: Measure = "value"
) -> Rate:
    """The worst-case distance of an algorithm from the minimum after some steps.

    Every gradient oracle is of a mu-strongly convex, L-smooth function of its own, every prox of a convex one;
    what is minimized is their sum. The step size is the algorithm's: 1.0 is 1/L for L = 1. (extra `theory`)

    Args:
        mu: strong convexity, 0 <= mu < L, with L the smoothness.
        steps: N, at least 1.
        measure: `value`, f(x_N) - f*; `distance`, |x_N - x*|^2; or `gradient`, |grad f(x_N)|^2; each for
            |x_0 - x*| <= 1.
    """
    if not 0 <= mu < L:
        raise MinimandError(f"mu is {mu} and L is {L}; expected 0 <= mu < L.")
    if steps < 1:
        raise MinimandError(f"steps is {steps}; expected at least 1.")
    if measure not in get_args(Measure):
        raise unknown_name("measure", str(measure), get_args(Measure))
    algorithm = as_algorithm(algorithm)
    if any(map(is_map, algorithm.oracles)) or len(algorithm.inputs) > 1:
        raise MinimandError(f"{algorithm} has a normalization or a second input; rates are known of neither.")
    bound, status = _worst_case(algorithm, mu, L, steps, measure)
    return Rate(str(algorithm), mu, L, steps, measure, len(algorithm.oracles), bound, status)


def _worst_case(algorithm: Algorithm, mu: float, L: float, steps: int, measure: Measure) -> tuple[float | None, str]:
    """The largest of a measure, None where the solver found none, and the solver's status."""
    pepit: Any = require("PEPit", "theory", "for worst-case rates")
    functions: Any = require("PEPit.functions", "theory", "for worst-case rates")
    problem = pepit.PEP()
    oracles: dict[str, Any] = {
        name: problem.declare_function(functions.ConvexFunction)
        if is_proximal(name)
        else problem.declare_function(functions.SmoothStronglyConvexFunction, mu=mu, L=L)
        for name in algorithm.oracles
    }
    total = reduce(add, oracles.values())
    minimum = total.stationary_point()
    start = problem.set_initial_point()
    problem.set_initial_condition((start - minimum) ** 2 <= 1)
    read = kernel(algorithm, steps)
    points: dict[Any, Any] = {INPUT: start}

    def point(combination: Combination) -> Any:
        return sum(
            (float(c) * points[atom] for atom, c in combination.terms.items()),
            start=pepit.Point(is_leaf=False, decomposition_dict={}),
        )

    for query in read.queries:
        oracle = oracles[query.answer.oracle]
        if is_proximal(query.answer.oracle):
            points[query.answer] = pepit.Point()
            oracle.add_point((point(query.point), points[query.answer], pepit.Expression()))
        else:
            points[query.answer] = oracle.gradient(point(query.point))
    output = point(read.output)
    measures = {
        "value": lambda: total(output) - total(minimum),
        "distance": lambda: (output - minimum) ** 2,
        "gradient": lambda: total.gradient(output) ** 2,
    }
    problem.set_performance_metric(measures[measure]())
    bound = problem.solve(verbose=0)
    status = str(problem.wrapper.prob.status)
    return None if bound is None or not status.startswith("optimal") else float(bound), status


def plot_rate(
    algorithm: AlgorithmLike,
    momenta: Sequence[float],
    mu: float = 0.0,
    L: float = 1.0,
    steps: int = 10,
    measure: Measure = "value",
) -> "Figure":
    """Draw the worst case of an algorithm against its momentum (extras `theory` and `plots`)."""
    from .drawing import draw_rates

    algorithm = as_algorithm(algorithm)
    if "momentum" not in algorithm.coefficient_names():
        raise MinimandError(f"{type(algorithm).__name__} has no momentum to vary.")
    rates = [rate(algorithm.rebind(momentum=m), mu, L, steps, measure) for m in momenta]
    title = f"{type(algorithm).__name__}, {steps} steps: {rates[0].functions}"
    return draw_rates(momenta, [r.bound for r in rates], title, rates[0].quantity)

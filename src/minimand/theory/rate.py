"""The worst-case convergence rate of an algorithm, by performance estimation (Drori & Teboulle, 2014; PEPit)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
Family = Literal["convex", "quadratic", "monotone"]
Iterate = Literal["last", "best"]
Start = Literal["distance", "value"]


@dataclass(frozen=True)
class Rate:
    """The worst case over all functions of a class, tight up to the solver's tolerance; of operators maybe loose."""

    algorithm: str
    mu: float
    L: float
    steps: int
    measure: Measure
    terms: int
    """The number of functions that are summed: one for each oracle."""
    bound: float | None
    """The largest of the measure from a start at 1; None where the solver found none."""
    status: str
    """The status that the solver reports."""
    family: Family = "convex"
    iterate: Iterate = "last"
    start: Start = "distance"

    @property
    def quantity(self) -> str:
        """The bounded quantity as a formula."""
        x = "x_N" if self.iterate == "last" else "x_k"
        gradient = f"|F({x})|^2" if self.family == "monotone" else f"|grad f({x})|^2"
        text = {"value": f"f({x}) - f*", "distance": f"|{x} - x*|^2", "gradient": gradient}[self.measure]
        return text if self.iterate == "last" else f"min_k {text}"

    @property
    def functions(self) -> str:
        """The class of functions, or of operators, in words."""
        if self.family == "monotone":
            one = f"{self.L:g}-Lipschitz " + (f"{self.mu:g}-strongly " if self.mu else "") + "monotone F"
            return (
                one if self.terms == 1 else f"F a sum of {self.terms}, those with a gradient {one.removesuffix(' F')}"
            )
        one = f"{self.L:g}-smooth " + (f"{self.mu:g}-strongly " if self.mu else "") + "convex "
        one += "quadratic f" if self.family == "quadratic" else "f"
        return one if self.terms == 1 else f"f a sum of {self.terms}, those with a gradient {one.removesuffix(' f')}"

    def __str__(self) -> str:
        if self.bound is None:
            return f"{self.quantity}: no bound was found for {self.functions}, N = {self.steps} ({self.status})"
        start = "|x_0 - x*|^2" if self.start == "distance" else "(f(x_0) - f*)"
        # The fourth digit of a semidefinite program's solution is another one on another processor.
        return f"{self.quantity} <= {self.bound:.3g} {start} for {self.functions}, N = {self.steps}"


def rate(
    algorithm: AlgorithmLike,
    mu: float = 0.0,
    L: float = 1.0,
    steps: int = 10,
    measure: Measure = "value",
    family: Family = "convex",
    iterate: Iterate = "last",
    start: Start = "distance",
) -> Rate:
    """The worst-case distance of an algorithm from the minimum after some steps.

    Every gradient oracle is of a mu-strongly convex, L-smooth function of its own, every prox of a convex one;
    what is minimized is their sum. The step size is the algorithm's: 1.0 is 1/L for L = 1. (extra `theory`)

    Args:
        mu: strong convexity, 0 <= mu < L, with L the smoothness.
        steps: N, at least 1.
        measure: `value`, `f(x_N) - f*`; `distance`, `|x_N - x*|^2`; or `gradient`, `|grad f(x_N)|^2`.
        family: `convex` functions; `quadratic` ones, where those with a gradient are; or `monotone`, operators F in the
            gradients' place, mu-strongly monotone and L-Lipschitz, with `0 = F(x*)`, which have no value; their bound
            holds, and may not be tight.
        iterate: the `last` one, the output; or the `best` one, of the output and of all queries of gradients.
        start: what is at most 1 at x_0: the `distance`, `|x_0 - x*|^2`, or the `value`, `f(x_0) - f*`.
    """
    if not 0 <= mu < L:
        raise MinimandError(f"mu is {mu} and L is {L}; expected 0 <= mu < L.")
    if steps < 1:
        raise MinimandError(f"steps is {steps}; expected at least 1.")
    words: tuple[tuple[str, str, Any], ...] = (
        ("measure", measure, Measure),
        ("family", family, Family),
        ("iterate", iterate, Iterate),
        ("start", start, Start),
    )
    for name, word, choices in words:
        if word not in get_args(choices):
            raise unknown_name(name, str(word), get_args(choices))
    if family == "monotone" and "value" in (measure, start):
        what = "measure" if measure == "value" else "start"
        raise MinimandError(f"{what} is 'value', but monotone operators have no value; expected 'distance'.")
    algorithm = as_algorithm(algorithm)
    if any(map(is_map, algorithm.oracles)) or len(algorithm.inputs) > 1:
        raise MinimandError(f"{algorithm} has a normalization or a second input; rates are known of neither.")
    question = Rate(str(algorithm), mu, L, steps, measure, len(algorithm.oracles), None, "", family, iterate, start)
    bound, status = _worst_case(algorithm, question)
    return replace(question, bound=bound, status=status)


def _worst_case(algorithm: Algorithm, question: Rate) -> tuple[float | None, str]:
    """The largest of a measure, None where the solver found none, and the solver's status."""
    pepit: Any = require("PEPit", "theory", "for worst-case rates")
    problem = pepit.PEP()
    oracles = {name: _declared(problem, question, is_proximal(name)) for name in algorithm.oracles}
    total = reduce(add, oracles.values())
    minimum = total.stationary_point()
    start = problem.set_initial_point()
    distance = (start - minimum) ** 2 if question.start == "distance" else total(start) - total(minimum)
    problem.set_initial_condition(distance <= 1)
    read = kernel(algorithm, question.steps)
    points: dict[Any, Any] = {INPUT: start}

    def point(combination: Combination) -> Any:
        return sum(
            (float(c) * points[atom] for atom, c in combination.terms.items()),
            start=pepit.Point(is_leaf=False, decomposition_dict={}),
        )

    iterates = []
    for query in read.queries:
        oracle = oracles[query.answer.oracle]
        if is_proximal(query.answer.oracle):
            points[query.answer] = pepit.Point()
            oracle.add_point((point(query.point), points[query.answer], pepit.Expression()))
        else:
            iterates.append(point(query.point))
            points[query.answer] = oracle.gradient(iterates[-1])
    measures: dict[str, Callable[[Any], Any]] = {
        "value": lambda x: total(x) - total(minimum),
        "distance": lambda x: (x - minimum) ** 2,
        "gradient": lambda x: total.gradient(x) ** 2,
    }
    # Of several metrics the solver takes the least.
    for x in [*(iterates if question.iterate == "best" else []), point(read.output)]:
        problem.set_performance_metric(measures[question.measure](x))
    bound = problem.solve(verbose=0)
    status = str(problem.wrapper.prob.status)
    return None if bound is None or not status.startswith("optimal") else float(bound), status


def _declared(problem: Any, question: Rate, proximal: bool) -> Any:
    """The function, or operator, that stands behind an oracle."""
    functions: Any = require("PEPit.functions", "theory", "for worst-case rates")
    operators: Any = require("PEPit.operators", "theory", "for worst-case rates")
    if question.family == "monotone":
        if proximal:
            return problem.declare_function(operators.MonotoneOperator)
        # Conditions that such operators meet, and maybe others: the bound holds, and may be loose.
        lipschitz = operators.LipschitzStronglyMonotoneOperatorCheap
        return problem.declare_function(lipschitz, mu=question.mu, L=question.L)
    if proximal:
        return problem.declare_function(functions.ConvexFunction)
    smooth = functions.SmoothStronglyConvexFunction
    if question.family == "quadratic":
        smooth = functions.SmoothStronglyConvexQuadraticFunction
    return problem.declare_function(smooth, mu=question.mu, L=question.L)


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

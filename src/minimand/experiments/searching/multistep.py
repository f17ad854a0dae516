"""Explicit linear multistep methods with constant coefficients, among which a search looks, and their source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import fill

from ...algorithms.integrators.linear_multistep import LinearMultistep

PRECISION = 2
"""The decimals of a coefficient: few, so that the algorithm found is readable and its symbolic reading exact."""

KNOWN: dict[str, dict[str, float]] = {
    "gradient_descent": {"step_size": 1.0},
    "heavy_ball": {"step_size": 1.0, "reflection1": 0.5},
    "nesterov_y": {"step_size": 1.0, "reflection1": 0.5, "damping1": 0.5},
}
"""The algorithms that a search begins with, by the parameters that are not 0; `nesterov_y` up to its read-out."""


@dataclass(frozen=True)
class Multistep:
    """x_next = x + sum_j m_j (x_j - x_{j+1}) - sum_j s_j grad(x_j), x_j being the x of j steps before.

    The state rests where every gradient is zero, whatever the coefficients are. Before the start every x is the
    input and every gradient 0. For two steps this is the master family (1 + m) x - m x_previous - s grad(x)
    - s_previous grad(x_previous).
    """

    momenta: tuple[float, ...]
    """The momenta m_0, m_1 ...: one less than steps."""
    step_sizes: tuple[float, ...]
    """The step sizes s_0, s_1 ...: one for each step."""

    @property
    def algorithm(self) -> LinearMultistep:
        """The method as an object of the built-in algorithm `LinearMultistep`."""
        # rho = (z - 1)(z^d - m_0 z^(d-1) - ...)
        velocity = [1.0, *(-m for m in self.momenta)]
        rho = [v - before for v, before in zip([*velocity, 0.0], [0.0, *velocity], strict=True)]
        return LinearMultistep(rho=_rounded(rho), sigma=self.step_sizes)

    @property
    def known(self) -> str:
        """The name of the algorithm among `KNOWN` that it is, or nothing."""
        return next((n for n, p in known_parameters(len(self.step_sizes)).items() if from_parameters(p) == self), "")

    @property
    def coefficients(self) -> dict[str, float]:
        """The coefficients by the names that they have in the source."""
        steps = len(self.step_sizes)
        momenta = ["momentum"] if steps == 2 else [f"momentum{j + 1}" for j in range(steps - 1)]
        step_sizes = ["step_size", *(f"step_size_{name}" for name in _past(steps))]
        return dict(zip([*momenta, *step_sizes], [*self.momenta, *self.step_sizes], strict=True))

    @property
    def formula(self) -> str:
        """The recurrence with its numbers; zero terms are left out."""
        points = ["x", *(f"x_{name}" for name in _past(len(self.step_sizes)))]
        moves = [f"({a} - {b})" for a, b in pairwise(points)]
        terms = [*zip(self.momenta, moves, strict=True)]
        terms += [(-s, f"grad({point})") for s, point in zip(self.step_sizes, points, strict=True)]
        return "x_next = x" + "".join(_term(c, what) for c, what in terms if c)

    def source(self, paragraphs: Sequence[str]) -> str:
        """A file with the algorithm as a class `Found`, whose docstring ends with the paragraphs."""
        steps, names = len(self.step_sizes), list(self.coefficients)
        points = ["x", *_past(steps)]
        answers = ["answer", *(f"{name}_answer" for name in _past(steps))]
        moves = [f"({a} - {b})" for a, b in pairwise(points)]
        terms = [f"+ self.{name}(k) * {move}" for name, move in zip(names, moves, strict=False)]
        terms += [f"- self.{name}(k) * {a}" for name, a in zip(names[steps - 1 :], answers, strict=True)]
        state = _tuple([*points, *answers[1:]])
        # No character in a paragraph may end the docstring around it.
        harmless = [paragraph.replace("\\", "/").replace('"', "'") for paragraph in paragraphs]
        texts = [f'    """{self.formula}.', *(f"    {paragraph}" for paragraph in harmless)]
        return _TEMPLATE.format(
            docstring="\n\n".join(fill(text, 116, subsequent_indent=" " * 4) for text in texts),
            fields="\n".join(f"    {n}: mm.Coefficient = {value}" for n, value in self.coefficients.items()),
            start=_tuple(["x"] * steps + ["0 * x"] * (steps - 1)),
            state=state,
            x_next=_sum(["x", *terms]),
            next=_tuple(["x_next", *points[:-1], *answers[:-1]]),
        )


def ranges(steps: int) -> dict[str, tuple[float, float]]:
    """The parameters that describe a method of so many steps, with their least and greatest values.

    The reflections are those of Schur and Cohn: all are below 1 in size if and only if the roots that the momenta
    decide lie inside the unit disc. A single one is the momentum. The step size is the sum of all step sizes, and
    positive: the method goes downhill. The dampings weigh differences of gradients, as in `HessianDamped`.
    """
    reflections = {f"reflection{j}": (-0.99, 0.99) for j in range(1, steps)}
    return {**reflections, "step_size": (0.01, 3.0), **{f"damping{j}": (-2.0, 2.0) for j in range(1, steps)}}


def from_parameters(parameters: Mapping[str, float]) -> Multistep:
    """The method that parameters of `ranges` describe, rounded."""
    steps = (len(parameters) + 1) // 2
    values = [parameters[name] for name in ranges(steps)]
    reflections, step_size, dampings = values[: steps - 1], values[steps - 1], values[steps:]
    momenta: list[float] = []
    for k in reflections:
        momenta = [*(m - k * mirrored for m, mirrored in zip(momenta, reversed(momenta), strict=True)), k]
    step_sizes = [new - old for new, old in zip([*dampings, 0.0], [-step_size, *dampings], strict=True)]
    return Multistep(_rounded(momenta), _rounded(step_sizes))


def known_parameters(steps: int) -> dict[str, dict[str, float]]:
    """The parameters of the known algorithms that are methods of so many steps."""
    zeros = dict.fromkeys(ranges(steps), 0.0)
    return {name: {**zeros, **nonzero} for name, nonzero in KNOWN.items() if nonzero.keys() <= zeros.keys()}


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(v, PRECISION) + 0.0 for v in values)  # + 0.0 makes -0.0 a 0


def _past(steps: int) -> list[str]:
    return ["previous"] if steps == 2 else [f"previous{j}" for j in range(1, steps)]


def _term(c: float, what: str) -> str:
    size = "" if abs(c) == 1 else f"{abs(c):g} "
    return f" {'-' if c < 0 else '+'} {size}{what}"


def _tuple(names: Sequence[str]) -> str:
    return f"({names[0]},)" if len(names) == 1 else ", ".join(names)


def _sum(terms: Sequence[str]) -> str:
    """A sum on one line, or with a line for each term, as ruff has it."""
    line = " ".join(terms)
    return line if len(line) <= 103 else "\n            ".join(["(", *terms]) + "\n        )"


_TEMPLATE = '''\
"""The algorithm that a search found, by name path/to/found.py:Found."""

from typing import Any

import minimand as mm


class Found(mm.Algorithm):
{docstring}
    """

{fields}

    def start(self, x: Any) -> Any:
        return {start}

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        {state} = state
        answer = gradient(x)
        x_next = {x_next}
        return {next}

    def read(self, state: Any) -> Any:
        return state[0]
'''

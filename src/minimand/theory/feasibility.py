"""Whether threshold units can meet their targets: linear separability, with a proof (Friesen & Domingos 2018)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .._support.errors import MinimandError, unknown_name

# What a certificate may leave over, relative to the largest entry of the inputs.
_TOLERANCE = 1e-7
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Separability:
    """Whether a unit sign(w x + b) can meet its targets, and what proves it."""

    separable: bool | None
    """Whether the unit can meet its targets; None where the method did not decide."""
    weight: np.ndarray
    """The weight w (d,): a witness if separable, else that of the least hinge loss that was reached."""
    bias: float
    margin: float
    """The least t (w x + b) / |w| over the samples; positive for a witness."""
    loss: float
    """The sum of max(0, 1 - t (w x + b)), 0 for a witness."""
    certificate: np.ndarray | None = None
    """A proof c (N,) that no unit can (Gordan): c >= 0 of sum 1 with sum_i c_i t_i (x_i, 1) = 0; None without one."""

    def __str__(self) -> str:
        if self.separable is None:
            return "undecided"
        if self.separable:
            return f"separable with margin {self.margin:.3g}"
        support = "" if self.certificate is None else f": {np.count_nonzero(self.certificate)} samples contradict it"
        return f"not separable{support}"


@dataclass(frozen=True)
class Feasibility:
    """Whether every unit of a layer can meet its targets."""

    units: tuple[Separability, ...]

    @property
    def feasible(self) -> bool | None:
        """Whether all units can meet their targets; None where some are undecided and none is impossible."""
        verdicts = {unit.separable for unit in self.units}
        return False if False in verdicts else None if None in verdicts else True

    @property
    def infeasible_units(self) -> tuple[int, ...]:
        """The indices of the units that cannot meet their targets."""
        return tuple(j for j, unit in enumerate(self.units) if unit.separable is False)

    def __str__(self) -> str:
        head = {True: "feasible", False: "infeasible", None: "undecided"}[self.feasible]
        return "\n".join([head, *(f"  unit {j}: {unit}" for j, unit in enumerate(self.units))])


def feasibility(inputs: np.ndarray, targets: np.ndarray, method: str = "linear_programming") -> Feasibility:
    """Whether the units of a layer can meet their targets, each one on its own.

    Args:
        inputs: (N, d).
        targets: (N,) or (N, units) of 1 and -1, and 0 for samples that do not count.
        method: "linear_programming" minimises the hinge loss (HiGHS): 0 gives a witness, more a certificate, both
            checked by substitution; a margin below about 1e-7 of the largest input counts as none. "max_margin" then
            takes the witness of the largest margin (a support vector machine). "perceptron" learns until it makes no
            mistake; it cannot prove that a unit is not separable, and leaves such undecided.
    """
    x, t = np.asarray(inputs, dtype=float), np.asarray(targets, dtype=float)
    t = t[:, None] if t.ndim == 1 else t
    if x.ndim != 2 or t.ndim != 2 or len(x) != len(t) or not len(x):
        raise MinimandError(
            f"inputs has shape {x.shape} and targets {np.shape(targets)}; expected (N, d), and (N,) or (N, units)."
        )
    if not np.isfinite(x).all():
        raise MinimandError("inputs holds numbers that are not finite; expected finite ones.")
    if not np.isin(t, (-1, 0, 1)).all():
        odd = t[~np.isin(t, (-1, 0, 1))][0]
        raise MinimandError(f"targets holds {odd:g}; expected 1, -1, or 0 for samples that do not count.")
    if method not in METHODS:
        raise unknown_name("method of feasibility", method, METHODS)
    return Feasibility(tuple(METHODS[method](x, column) for column in t.T))


def linear_programming(x: np.ndarray, t: np.ndarray) -> Separability:
    """Separability of one unit: x (N, d), t (N,). The duals of the hinge loss are the certificate."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, eye_array, hstack

    counted = t != 0
    scale = max(float(np.abs(x).max(initial=0)), 1e-300)
    rows = t[counted, None] * np.column_stack([x[counted] / scale, np.ones(counted.sum())])
    n, d = rows.shape
    if n == 0:
        return _judged(x, t, np.zeros(x.shape[1]), 1.0)
    # min sum s with rows (w, b) + s >= 1, s >= 0
    solution = linprog(
        np.concatenate([np.zeros(d), np.ones(n)]),
        A_ub=-hstack([csr_array(rows), eye_array(n)]),
        b_ub=-np.ones(n),
        bounds=[(None, None)] * d + [(0, None)] * n,
        method="highs",
    )
    if solution.x is None:
        return _judged(x, t, np.zeros(x.shape[1]), 0.0)
    unit = _judged(x, t, solution.x[: d - 1] / scale, float(solution.x[d - 1]))
    if unit.separable:
        return unit
    duals = np.clip(-np.asarray(solution.ineqlin.marginals), 0, None)
    if duals.sum() <= 0 or np.abs(duals @ rows).max() > _TOLERANCE * duals.sum():
        return unit
    certificate = np.zeros(len(t))
    certificate[counted] = duals / duals.sum()
    return Separability(False, unit.weight, unit.bias, unit.margin, unit.loss, certificate)


def max_margin(x: np.ndarray, t: np.ndarray) -> Separability:
    """Separability of one unit as by `linear_programming`, with the witness of the largest margin."""
    from sklearn.svm import SVC

    unit = linear_programming(x, t)
    counted = t != 0
    if not unit.separable or len(np.unique(t[counted])) < 2:
        return unit
    scale = unit.margin  # the machine's tolerance is absolute
    machine = SVC(kernel="linear", C=1e10, tol=1e-6, max_iter=100_000).fit(x[counted] / scale, t[counted])
    wider = _judged(x, t, machine.coef_[0] / scale, float(machine.intercept_[0]))
    return wider if wider.separable and wider.margin > unit.margin else unit


def perceptron(x: np.ndarray, t: np.ndarray) -> Separability:
    """Separability of one unit by Rosenblatt's rule: from 0, sample by sample, for at most 1000 epochs."""
    rows = t[:, None] * np.column_stack([x, np.ones(len(x))])
    w = np.zeros(rows.shape[1])
    for _ in range(1000):
        before = w.copy()
        for row in rows[t != 0]:
            if row @ w <= 0:
                w += row
        if np.array_equal(w, before):
            break
    return _judged(x, t, w[:-1], float(w[-1]))


METHODS: Mapping[str, Callable[[np.ndarray, np.ndarray], Separability]] = {
    "linear_programming": linear_programming,
    "max_margin": max_margin,
    "perceptron": perceptron,
}


def _judged(x: np.ndarray, t: np.ndarray, weight: np.ndarray, bias: float) -> Separability:
    """The separability that a unit itself shows: separable if it meets its targets, else undecided."""
    counted = t != 0
    reached = t[counted] * (x[counted] @ weight + bias)
    least = float(reached.min(initial=np.inf))
    length = float(np.linalg.norm(weight))
    # By more than rounding may have contributed.
    meets = least > _ROUNDING * float((np.abs(x) @ np.abs(weight)).max(initial=0) + abs(bias))
    if meets and np.isfinite(least):
        weight, bias = weight / least, bias / least  # scaled so that every sample is at 1 or beyond
        length, least, reached = length / least, 1.0, reached / least
    margin = least / length if length > 0 else np.copysign(np.inf, least)
    return Separability(meets or None, weight, bias, float(margin), float(np.maximum(0, 1 - reached).sum()))

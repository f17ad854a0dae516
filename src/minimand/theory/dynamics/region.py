"""Step-size stability regions: the curvatures on which the steps of an algorithm stay bounded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..._support.errors import MinimandError, unknown_name
from ...algorithms import as_algorithm, is_map
from ..oracles import AlgorithmLike, check_depth, extended
from ..scalars import TOLERANCE
from ..steps import Steps
from .linear_system import LinearSystem
from .stability import tail

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FAR = 1e6  # curvatures beyond which a region counts as unbounded
_NEAR = 1e-6
_SAMPLES = 600
_LOOKS = 14  # each view is half as wide as the one before it


@dataclass(frozen=True)
class StabilityRegion:
    """The complex mu for which the steps on x' = mu x, every gradient being -mu query, stay bounded.

    The step size of the algorithm counts: gradient descent with step size s has the disc |1 + s mu| <= 1. Methods of
    several steps, stages or implicit answers are treated alike; of several oracles each answers so, or with `of` one
    alone. (Hairer & Wanner, IV.2, V.1)
    """

    title: str
    system: LinearSystem
    oracles: tuple[str, ...]
    """The name of the oracle that gives each answer of a step."""
    alone: str | None = None
    """The one oracle that answers -mu query while the others answer 0; None where all do."""

    def of(self, oracle: str) -> StabilityRegion:
        """The region where one oracle answers, all others being 0: of the prox, what the implicit part bears."""
        if oracle not in self.oracles:
            raise unknown_name("oracle", oracle, self.oracles)
        return replace(self, title=f"{self.title}, {oracle} alone", alone=oracle)

    def radius(self, mu: np.ndarray) -> np.ndarray:
        """The spectral radius of a step at each mu, of the shape of `mu`; infinite where a step cannot be solved."""
        A, B, C, D = self._matrices
        mu = np.asarray(mu, dtype=complex)
        z = mu.reshape(-1, 1, 1)
        if not self.system.size:
            return np.zeros(mu.shape)
        implicit = np.eye(len(D)) + z * D
        singular = np.abs(np.linalg.det(implicit)) < np.finfo(float).eps
        implicit[singular] = np.eye(len(D))
        steps = A - z * (B @ np.linalg.solve(implicit, np.broadcast_to(C, (len(z), *C.shape))))
        radii = np.abs(np.linalg.eigvals(steps)).max(-1)
        return np.where(singular, np.inf, radii).reshape(mu.shape)

    @cached_property
    def _matrices(self) -> tuple[np.ndarray, ...]:
        """A, B, C and D; of an oracle alone, without the answers of the others."""
        matrices = (self.system.A, self.system.B, self.system.C, self.system.D)
        A, B, C, D = (np.array(rows, dtype=float) for rows in matrices)
        answers = np.array([self.alone in (None, oracle) for oracle in self.oracles], dtype=float)
        return A, B * answers, C, D * answers

    @cached_property
    def angle(self) -> int:
        """The half angle in whole degrees of the largest sector around the negative real axis where steps are bounded.

        90 is A-stability: bounded wherever the equation decays, for any step size. A spectral radius has its maximum on
        the boundary of a sector without poles, so that its rays tell. (Hairer & Wanner, IV.3, V.2)
        """
        inverses = np.linalg.eigvals(self._matrices[3])  # a step cannot be solved at mu = -1 / d
        poles = -1 / inverses[np.abs(inverses) > TOLERANCE]
        widest = min([90, *(int(np.degrees(np.abs(np.angle(-pole)))) for pole in poles if pole.real < -TOLERANCE)])
        low, high = -1, widest + 1
        while high - low > 1:
            middle = (low + high) // 2
            ray = -np.geomspace(_NEAR, _FAR, _SAMPLES // 4) * np.exp(1j * np.radians(middle))
            low, high = (middle, high) if (self.radius(ray) <= 1 + TOLERANCE).all() else (low, middle)
        return max(low, 0)

    @cached_property
    def largest_curvature(self) -> float:
        """The largest L with bounded steps on all quadratics of curvature in (0, L]; 0 where none is, or infinite."""
        curvatures = np.geomspace(_NEAR, _FAR, _SAMPLES)
        unstable = np.flatnonzero(~self._bounded(curvatures))
        if not unstable.size:
            return np.inf
        if unstable[0] == 0:
            return 0.0
        low, high = curvatures[unstable[0] - 1], curvatures[unstable[0]]
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self._bounded(np.array([middle]))[0] else (low, middle)
        return float(low)

    def _bounded(self, curvatures: np.ndarray) -> np.ndarray:
        # Double poles on the circle, as at both ends of leapfrog's interval, are a matter of rounding.
        return self.radius(-curvatures) <= 1 + TOLERANCE

    def __str__(self) -> str:
        limit = self.largest_curvature
        if limit == 0:
            text = "unbounded on every quadratic, however small its curvature"
        elif np.isfinite(limit):
            text = f"bounded for curvatures up to {limit:.4g}"
        else:
            where = "in the whole left half-plane (A-stable)"
            text = "bounded for every curvature, and "
            text += where if self.angle == 90 else f"within {self.angle} degrees of the negative axis"
        names = dict.fromkeys(self.oracles)
        if self.alone is not None or len(names) == 1:
            return text
        alone = {name: self.of(name).largest_curvature for name in names}
        parts = [f"{name} {f'up to {c:.4g}' if np.isfinite(c) else 'for every one'}" for name, c in alone.items()]
        return f"{text}; alone: {', '.join(parts)}"

    @property
    def view(self) -> tuple[float, float, float, float]:
        """The rectangle (left, right, bottom, top) of the plane that shows the region, or what is near 0 of it."""
        limit = self.largest_curvature
        size = 4 * limit if 0 < limit < np.inf else 16.0
        for _ in range(_LOOKS):
            axis = np.linspace(-size, size, 81)
            real, imaginary = np.meshgrid(axis, axis)
            stable = self.radius(real + 1j * imaginary) <= 1 + TOLERANCE
            if stable[(0, -1), :].any() or stable[:, (0, -1)].any():
                break  # the region reaches the edge, so it goes on beyond every view
            far = np.maximum(abs(real), abs(imaginary))[stable].max(initial=0)
            if far > 0.3 * size:
                left, right, top = real[stable].min(), real[stable].max(), max(imaginary[stable].max(), 0.2 * far)
                margin = 0.15 * far
                return float(left - margin), float(right + margin), float(-top - margin), float(top + margin)
            size /= 2
        return -6.0, 6.0, -6.0, 6.0

    def plot(self) -> Figure:
        """Draw the region in the complex plane (extra `plots`)."""
        from ..drawing import draw_region

        return draw_region(self)


def stability_region(algorithm: AlgorithmLike, depth: int = 20) -> StabilityRegion:
    """The stability region of the steps that an algorithm ends in, over networks of `depth` layers.

    Example: `mm.theory.stability_region("adams_bashforth2").largest_curvature` is 1.

    Raises:
        MinimandError: coefficients that keep varying, memory that grows, a normalization: no step repeats.
    """
    check_depth(depth)
    algorithm = extended(as_algorithm(algorithm), depth)
    constant = None if any(map(is_map, algorithm.oracles)) else tail(Steps(algorithm), depth)
    if constant is None:
        raise MinimandError(
            f"the steps of {algorithm} vary with depth, grow or normalize: they have no one stability region; expected "
            "constant coefficients, or a schedule that becomes constant."
        )
    return StabilityRegion(str(algorithm), constant.system, constant.oracles)

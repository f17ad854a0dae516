"""Step-size stability regions: the curvatures on which the steps of an algorithm stay bounded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..._support.errors import MinimandError
from ...algorithms import as_algorithm, is_map
from ..kernel import AlgorithmLike, extended
from ..scalars import TOLERANCE
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
    several steps, stages or implicit answers are treated alike. (Hairer & Wanner, IV.2, V.1)
    """

    title: str
    system: LinearSystem

    def radius(self, mu: np.ndarray) -> np.ndarray:
        """The spectral radius of a step at each mu, of the shape of `mu`; infinite where a step cannot be solved."""
        matrices = (self.system.A, self.system.B, self.system.C, self.system.D)
        A, B, C, D = (np.array(rows, dtype=float) for rows in matrices)
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
            return "unbounded on every quadratic, however small its curvature"
        return f"bounded for curvatures up to {limit:.4g}" if np.isfinite(limit) else "bounded for every curvature"

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
                break  # it goes on beyond every view
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
    algorithm = extended(as_algorithm(algorithm), depth)
    constant = None if any(map(is_map, algorithm.oracles)) else tail(algorithm, depth)
    if constant is None:
        raise MinimandError(
            f"the steps of {algorithm} vary with depth, grow or normalize: they have no one stability region; expected "
            "constant coefficients, or a schedule that becomes constant."
        )
    return StabilityRegion(str(algorithm), constant.system)

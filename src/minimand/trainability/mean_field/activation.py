"""An activation as a function of one number: its values and slopes in float64, and its Gaussian expectations."""

import copy
import inspect
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError, WrongTypeError, unknown_name
from ...networks.kinds import ACTIVATION_FUNCTIONS

# Gauss-Legendre nodes and weights of a panel, and how values there give those elsewhere in it.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_CHECKS = np.array([-0.99999, -0.93, -0.6, -0.2, 0.3, 0.55, 0.9, 0.99999])
_legendre = np.polynomial.legendre.legvander
_INTERPOLATION = _legendre(_CHECKS, 15) @ np.linalg.inv(_legendre(_NODES, 15))
_RESOLVED, _NARROWEST, _MOST_PANELS = 1e-10, 1e-10, 20_000

# The Gaussian density beyond is under 1e-22.
_FAR = 10.0
_PANELS = np.arange(-_FAR, _FAR + 1, 2)


class Moments(NamedTuple):
    """Expectations at a Gaussian h of variance q: E phi^2, E phi, E phi'^2, E phi'^4, and d E phi^2 / dq."""

    second: float
    mean: float
    mu1: float
    mu2: float
    slope: float


class ActivationFunction:
    """A function of one number, its slope and, by Gauss-Legendre rules on smooth panels, Gaussian expectations."""

    def __init__(self, function: Callable[[Tensor], Tensor], name: str) -> None:
        self.name = name
        self._function = function
        # Remembered as long as the object lives.
        self._edges = lru_cache(4096)(self._edges_to)
        self.moments = lru_cache(4096)(self._moments_at)
        self.gap = lru_cache(4096)(self._gap_at)
        h = np.linspace(-3, 3, 7)
        try:
            whole, part = self(h)[0], self(h[2:5])[0]
        except (TypeError, RuntimeError, ValueError, AttributeError) as error:
            raise WrongTypeError(f"activation {name} cannot take a vector of float64: {error}") from error
        if whole.shape != h.shape or not np.array_equal(whole[2:5], part, equal_nan=True):
            raise MinimandError(
                f"activation {name} does not act number by number, or is random; its mean field is unknown."
            )
        if not np.isfinite(whole).all():
            raise MinimandError(f"activation {name} is not finite between -3 and 3.")

    def __call__(self, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values phi(h) and the slopes phi'(h) that backpropagation takes, in the shape of h."""
        with torch.enable_grad():
            leaf = torch.tensor(h, dtype=torch.float64, requires_grad=True)
            value = self._function(leaf.clone())  # a clone, as some act in place
            if not isinstance(value, Tensor):
                raise WrongTypeError(f"it returns a {type(value).__name__}; expected a tensor.")
            slope = torch.zeros_like(leaf)
            if value.requires_grad and value.shape == leaf.shape:
                gradient = torch.autograd.grad(value.sum(), leaf, allow_unused=True)[0]
                slope = slope if gradient is None else gradient
        return value.detach().double().numpy(), slope.numpy()

    @cached_property
    def homogeneous(self) -> bool:
        """Whether phi(t h) = t phi(h) for t > 0, as for ReLU."""
        h = np.array([-1.0, 1.0])
        once = self(h)[0]
        return all(np.allclose(self(t * h)[0], t * once, rtol=1e-12, atol=0) for t in (1e-3, 0.3, 7.0, 1e3))

    def minus(self, constant: float) -> "ActivationFunction":
        """The activation phi(h) - constant, where this one is phi(h)."""
        return ActivationFunction(lambda h: self._function(h) - constant, f"{self.name} - {constant:.4g}")

    def squared_slopes(self, q: float) -> tuple[np.ndarray, np.ndarray]:
        """The distribution of phi'(h)^2 for h of variance q: values and their probabilities."""
        near = 2.0 ** np.arange(-12, 1)
        z, weights = _rule(_within(np.concatenate([_PANELS, near, -near, self._bends(q) / np.sqrt(q)])))
        weights = weights * _density(z)
        d = self(np.sqrt(q) * z)[1] ** 2
        # Values that are nearly equal are one, their mean.
        where = np.unique(np.round((d - d.min()) / max(float(np.ptp(d)), 1e-300) * 256), return_inverse=True)[1]
        mass = np.bincount(where, weights)
        return np.bincount(where, weights * d) / mass, mass / mass.sum()

    def _moments_at(self, q: float) -> Moments:
        """The moments at a variance q above 0."""
        z, weights = _rule(_within(np.concatenate([_PANELS, self._bends(q) / np.sqrt(q)])))
        value, slope = self(np.sqrt(q) * z)
        weights = weights * _density(z)
        square = value**2
        # Stein's lemma in place of a derivative, as it also holds for jumps.
        steepness = weights @ ((z**2 - 1) * square) / (2 * q)
        numbers = (weights @ square, weights @ value, weights @ slope**2, weights @ slope**4, steepness)
        return Moments(*map(float, numbers))

    def _gap_at(self, q: float, c: float) -> float:
        """E (phi(u) - phi(v))^2 / 2 for Gaussians of variance q above 0 and correlation c, exact also near c = 1."""
        # u, v = sqrt(q) (along x +- across y) with x and y independent; the integrand is even in y.
        along, across = (np.sqrt(max(q * (1 + s * c) / 2, 1e-300)) for s in (1, -1))
        bends = self._bends(q)
        y, outer = _rule(_within(np.concatenate([[0.0], _PANELS, bends / across]), low=0.0))
        crossed = np.concatenate([bends[None] - across * y[:, None], bends[None] + across * y[:, None]], 1) / along
        x, inner = _rule(np.sort(np.concatenate([np.tile(_PANELS, (len(y), 1)), np.clip(crossed, -_FAR, _FAR)], 1)))
        u, v = (self(along * x + sign * across * y[:, None])[0] for sign in (1, -1))
        return float(outer * _density(y) @ (inner * _density(x) * (u - v) ** 2).sum(1))

    def _bends(self, q: float) -> np.ndarray:
        """The edges of the panels in which h of variance q lies."""
        return self._edges(float(2.0 ** max(3, np.ceil(np.log2(_FAR * np.sqrt(q))))))

    def _edges_to(self, reach: float) -> np.ndarray:
        """Ends of panels from -reach to reach in which 16 Gauss-Legendre nodes resolve phi and its slope."""
        powers = [reach / 2**k for k in range(2 + max(0, round(np.log2(reach))))]
        edges = np.array(sorted({0.0, *powers, *(-p for p in powers)}))
        low, high = edges[:-1], edges[1:]
        finished = [np.array([-reach, reach])]
        for _ in range(60):
            half, middle = (high - low) / 2, (high + low) / 2
            values = np.stack(self(middle[:, None] + half[:, None] * np.concatenate([_NODES, _CHECKS])))
            if not np.isfinite(values).all():
                raise MinimandError(f"activation {self.name} is not finite between {-reach:g} and {reach:g}.")
            nodes, checks = values[..., : len(_NODES)], values[..., len(_NODES) :]
            scale = np.maximum(1, np.abs(nodes).max(-1))
            unresolved = (np.abs(nodes @ _INTERPOLATION.T - checks).max(-1) > _RESOLVED * scale).any(0)
            unresolved &= half > _NARROWEST * np.maximum(1, np.abs(middle))
            finished += [low[~unresolved], high[~unresolved]]
            if not unresolved.any():
                return np.unique(np.concatenate(finished))
            if unresolved.sum() > _MOST_PANELS:
                break
            low, middle, high = low[unresolved], middle[unresolved], high[unresolved]
            low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        raise MinimandError(f"activation {self.name} is random, or nowhere smooth, between {-reach:g} and {reach:g}.")


def _within(edges: np.ndarray, low: float = -_FAR) -> np.ndarray:
    return np.unique(np.clip(edges, low, _FAR))


def _rule(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of all panels between the edges, which are in the last dimension."""
    half, middle = (edges[..., 1:] - edges[..., :-1]) / 2, (edges[..., 1:] + edges[..., :-1]) / 2
    nodes = middle[..., None] + half[..., None] * _NODES
    weights = half[..., None] * _WEIGHTS
    return nodes.reshape(*edges.shape[:-1], -1), weights.reshape(*edges.shape[:-1], -1)


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def activation(phi: Any) -> ActivationFunction:
    """The activation behind a name, a module or its class, a function of torch, or any callable tensor -> tensor.

    Names, functions of torch and modules of torch without parameters are remembered with their expectations; any
    other callable is read afresh, as nobody can say when two of them are equal.
    """
    if isinstance(phi, ActivationFunction):
        return phi
    if isinstance(phi, str):
        if phi not in ACTIVATION_FUNCTIONS:
            raise unknown_name("activation", phi, ACTIVATION_FUNCTIONS)
        return _remembered(_Known(ACTIVATION_FUNCTIONS[phi], phi, phi))
    if inspect.isclass(phi) and issubclass(phi, nn.Module):
        phi = phi()
    if isinstance(phi, nn.Module):
        return _of_module(phi)
    if not callable(phi):
        raise WrongTypeError(f"activation is {phi!r}; expected a name, a module or a function of a tensor.")
    name = getattr(phi, "__name__", repr(phi))
    phi = cast(Callable[[Tensor], Tensor], phi)
    return _remembered(_Known(phi, name, phi)) if _belongs_to_torch(phi) else ActivationFunction(phi, name)


def _of_module(module: nn.Module) -> ActivationFunction:
    # `forward`, not the call: hooks of the model that is looked at stay out of this.
    name = repr(module)
    if type(module).__module__ == "torch.nn.modules.activation" and not list(module.parameters()):
        twin = copy.copy(module)
        twin.training = False
        return _remembered(_Known(twin.forward, name, (type(module), name)))
    return ActivationFunction(copy.deepcopy(module).cpu().double().eval().forward, name)


def _belongs_to_torch(function: Any) -> bool:
    if isinstance(function, BuiltinFunctionType):
        return not isinstance(function.__self__, Tensor)
    return isinstance(function, FunctionType) and function.__module__.startswith("torch.") and not function.__closure__


@dataclass(frozen=True)
class _Known:
    """A function that another one of the same key can stand for."""

    function: Callable[[Tensor], Tensor] = field(compare=False)
    name: str = field(compare=False)
    key: Hashable


@lru_cache(maxsize=256)
def _remembered(known: _Known) -> ActivationFunction:
    return ActivationFunction(known.function, known.name)

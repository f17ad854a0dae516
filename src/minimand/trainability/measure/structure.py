"""The structure of a network, as far as a remedy depends on it, and which of its zeros are meant."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...networks.kinds import RECURRENT, has_normalization
from ..mean_field.depth_scales import beta_of
from .layer_stat import LIMIT, Measured
from .statistics import measure

_RECTIFIERS = ("relu", "leaky_relu", "prelu", "rrelu", "relu6")
_PERTURBATION, _ROUNDS = 1e-3, 6


@dataclass(frozen=True)
class Structure:
    """The structure of a network: its skips, normalization, activation, depth and width."""

    plain: bool
    """Whether each layer reads what one other gave, so that there are no skips."""
    recurrent: bool
    normalized: bool
    activation: str | None
    """The name of the most frequent activation."""
    function: Callable[[torch.Tensor], torch.Tensor] | None
    """The most frequent activation as a function."""
    depth: int
    beta: float
    """The sum of 1 / width over the layers that ran, as `fluctuation_beta` has it."""
    frozen: frozenset[str]
    """The layers of which no parameter is trained."""

    @property
    def limit(self) -> float:
        """The limit of the logarithm of a growth: beside skips, normalization gives each weight its own step size."""
        return LIMIT if self.plain or not self.normalized else 2 * LIMIT

    @property
    def rectifies(self) -> bool:
        """Whether the activation is ReLU or its like."""
        return self.activation in _RECTIFIERS

    @classmethod
    def of(cls, model: nn.Module, measured: Measured) -> "Structure":
        """The structure of a model as its layers ran."""
        calls = measured.trace.calls
        functions = {call.activation.name: call.activation.function for call in calls if call.activation}
        kinds = Counter(call.activation.name for call in calls if call.activation)
        activation = kinds.most_common(1)[0][0] if kinds else None
        modules = list(model.modules())
        return cls(
            plain=not measured.trace.sums
            and all(len(call.after) <= 1 for call in calls)
            and not any(isinstance(m, nn.MultiheadAttention) for m in modules),
            recurrent=any(isinstance(m, RECURRENT) for m in modules),
            normalized=has_normalization(model) or any("Norm" in type(m).__name__ for m in modules),
            activation=activation,
            function=None if activation is None else functions[activation],
            depth=len(measured.layers),
            beta=beta_of([call.module for call in calls]),
            frozen=frozenset(c.name for c in calls if not any(p.requires_grad for p in c.module.parameters())),
        )


def freed_by_moving_zeros(model: nn.Module, batch: Any, blocked: frozenset[int]) -> frozenset[int]:
    """The layers without gradient that have one as soon as tensors that are all zero move, of those `blocked`.

    Only tensors that have a gradient are moved, as training would, by 1e-3; then again, until nothing new moves. So a
    zero that starts a branch is told from one that training never leaves.
    """
    zeros = [p for p in model.parameters() if p.requires_grad and p.numel() and not bool(p.any())]
    with _put_back(zeros), torch.no_grad():
        for _ in range(_ROUNDS if zeros else 0):
            measured = measure(model, batch, at_output=True)
            alive = [p for p in zeros if measured.gradients.get(p, 0.0) > 0 and not bool(p.any())]
            still_blocked = {i for i in blocked if measured.layers[i].blocked}
            if not alive or not still_blocked:
                return frozenset(blocked - still_blocked)
            for i, p in enumerate(alive):
                noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
                p.add_(noise.to(p), alpha=_PERTURBATION)
    return frozenset()


@contextmanager
def _put_back(zeros: list[nn.Parameter]) -> Iterator[None]:
    try:
        yield
    finally:
        with torch.no_grad():
            for p in zeros:
                p.zero_()

"""The structure of a network: skips, normalization, activation, attention, and what of it is meant to start at 0."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...networks.kinds import RECURRENT, has_normalization
from ..mean_field.depth_scales import beta_of
from ..measure.flow import tensors
from ..measure.layer_stat import LIMIT, Measured
from ..measure.statistics import measure
from ..measure.tracing import branches

_RECTIFIERS = ("relu", "leaky_relu", "prelu", "rrelu", "relu6")
_PERTURBATION, _ROUNDS = 1e-3, 6
# A factor whose entries all are the same number, and as small as this, is meant to let its branch in slowly.
_SMALL = 1e-2


@dataclass(frozen=True)
class Structure:
    """The structure of a network: its skips, normalization, activation, depth and width."""

    plain: bool
    """Whether each layer reads what one other gave, so that there are neither skips nor attention."""
    attends: bool
    """Whether tokens are mixed by attention."""
    has_skips: bool
    """Whether the output of some layers is added to what they read."""
    recurrent: bool
    normalized: bool
    reads_tokens: bool
    """Whether the batch has integers only, such as the ids of tokens."""
    reads_numbers: bool
    """Whether the first layer reads numbers of the batch, without an embedding or a normalization between."""
    activation: str | None
    function: Callable[[torch.Tensor], torch.Tensor] | None
    """The most frequent activation as a function; `activation` is its name."""
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
    def of(cls, model: nn.Module, batch: Any, measured: Measured) -> "Structure":
        """The structure of a model as its layers ran on a batch."""
        trace = measured.trace
        calls = trace.calls
        functions = {call.activation.name: call.activation.function for call in calls if call.activation}
        kinds = Counter(call.activation.name for call in calls if call.activation)
        activation = max(kinds, key=lambda name: kinds[name], default=None)
        modules = list(model.modules())
        reads_tokens = not any(tensor.is_floating_point() for tensor in tensors(batch))
        return cls(
            plain=not trace.sums and not trace.attends and all(len(call.after) <= 1 for call in calls),
            attends=trace.attends,
            has_skips=bool(trace.sums) and bool(branches(model, trace)),
            recurrent=any(isinstance(m, RECURRENT) for m in modules),
            normalized=has_normalization(model) or any("Norm" in type(m).__name__ for m in modules),
            reads_tokens=reads_tokens,
            reads_numbers=not reads_tokens and bool(calls) and calls[0].reads_batch,
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
    with torch.no_grad(), ExitStack() as put_back:
        for p in zeros:
            put_back.callback(p.zero_)
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
def branches_let_in(model: nn.Module) -> Iterator[bool]:
    """Set the small factors of branches, such as a layer scale of 1e-5, to 1, and back at the end; whether any is."""
    small = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1 and p.numel() and _is_small(p)]
    values = [p.detach().clone() for p in small]
    try:
        with torch.no_grad():
            for p in small:
                p.fill_(1.0)
        yield bool(small)
    finally:
        with torch.no_grad():
            for p, value in zip(small, values, strict=True):
                p.copy_(value)


def _is_small(factor: nn.Parameter) -> bool:
    first = factor.detach().flatten()[0]
    return bool((first > 0) & (first <= _SMALL) & (factor.detach() == first).all())

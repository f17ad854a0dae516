"""Blocks of two inputs from those of one."""

from typing import Any

from torch import Tensor, nn

from ..._support.errors import MinimandError


class Injected(nn.Module):
    """A block of (z, x) from a module of z: body(z) + x, or body(z) + injection(x)."""

    def __init__(self, body: nn.Module, injection: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.injection = nn.Identity() if injection is None else injection

    def forward(self, z: Any, x: Tensor) -> Tensor:
        """The next state, (N, ...) as the injection of x has it."""
        answer, added = self.body(z), self.injection(x)
        if answer.shape != added.shape:
            raise MinimandError(
                f"block {type(self.body).__name__} answers {tuple(answer.shape)}, to which an input of "
                f"{tuple(added.shape)} is added; expected the same shape, or a block of (z, x)."
            )
        return answer + added

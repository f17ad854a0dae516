"""Blocks of two inputs from those of one."""

from typing import Any

from torch import Tensor, nn


class Injected(nn.Module):
    """A block of (z, x) from a module of z: body(z) + x, or body(z) + injection(x)."""

    def __init__(self, body: nn.Module, injection: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.injection = nn.Identity() if injection is None else injection

    def forward(self, z: Any, x: Tensor) -> Tensor:
        """The next state, (N, ...) as the injection of x has it."""
        return self.body(z) + self.injection(x)

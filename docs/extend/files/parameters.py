"""`minimand parameters`: how many parameters a model has."""

from dataclasses import dataclass
from typing import ClassVar

from rich.console import Console
from tyro.conf import Positional

from minimand.cli.commands._registry import COMMANDS


@COMMANDS.register("parameters")
@dataclass(frozen=True)
class Parameters:
    """Print how many parameters a model has, child by child."""

    takes: ClassVar[tuple[str, ...]] = ("models",)
    model: Positional[str]
    """A named model; settings may follow, as in "mlp(width=32)"."""
    in_channels: int = 3
    """The channels of an image, or the length of a vector."""

    def __call__(self, console: Console) -> None:
        import minimand as mm  # here, so that --help does not wait for torch

        model = mm.create_model(self.model, in_channels=self.in_channels)
        for name, child in model.named_children():
            console.print(f"{name}: {sum(p.numel() for p in child.parameters()):,}")
        console.print(f"in all: {sum(p.numel() for p in model.parameters()):,}")

"""The count of floating-point operations, by torch's counter without its bookkeeping by module."""

from typing import Any

from torch.utils.flop_counter import FlopCounterMode


class FlopCounter(FlopCounterMode):
    """A context that counts the operations of matrix products and convolutions, those of backward passes included.

    torch's own tells modules apart by hooks on gradients, with which a backward pass that asks for gradients itself, as
    an equilibrium's does, cannot run.
    """

    def __init__(self) -> None:
        super().__init__(display=False)
        self.mod_tracker: Any = _Everything()


class _Everything:
    """A stand-in for torch's tracker of modules: one module, to which everything belongs."""

    parents = frozenset({"Global"})

    def __enter__(self) -> "_Everything":
        return self

    def __exit__(self, *error: object) -> None:
        pass

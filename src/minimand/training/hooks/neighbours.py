"""Auxiliary heads that follow the next layer's weights."""

from ..loop.training import Training
from ..methods.local.copies import MomentumNeighbour
from .hook import HOOKS, Hook


@HOOKS.register("neighbours")
class NeighboursHook(Hook):
    """Moves the averages of auxiliary heads "momentum" after each update, towards the layers that they follow."""

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.heads = _heads(training)

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        return bool(_heads(training))

    def after_step(self, value: float) -> None:
        for head in self.heads:
            head.follow()


def _heads(training: Training) -> list[MomentumNeighbour]:
    return [m for m in training.plan.saved.modules() if isinstance(m, MomentumNeighbour)]

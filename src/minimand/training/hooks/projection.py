"""The projection of learnable coefficients onto their bounds."""

from ...networks.skeletons import skeletons
from ..loop.training import Training
from .hook import HOOKS, Hook


@HOOKS.register("projection")
class ProjectionHook(Hook):
    """Brings learnable coefficients of algorithms back within their bounds after each update."""

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.projections = [skeleton.project for skeleton in skeletons(training.model)]

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        return True

    def constrain(self) -> None:
        for project in self.projections:
            project()

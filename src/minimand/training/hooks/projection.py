"""The projection of learnable coefficients onto their bounds."""

from typing import TYPE_CHECKING

from ...networks.unrolled import Unrolled
from ...surgery.rewire import project_rewired
from .hook import HOOKS, Hook

if TYPE_CHECKING:
    from ..loop.training import Training


@HOOKS.register("projection")
class ProjectionHook(Hook):
    """Brings learnable coefficients of algorithms back within their bounds after each update."""

    def __init__(self, training: "Training") -> None:
        super().__init__(training)
        stages = [module for module in training.model.modules() if isinstance(module, Unrolled)]
        self.projections = [*(stage.project for stage in stages), *project_rewired(training.model)]

    @classmethod
    def is_wanted(cls, training: "Training") -> bool:
        return True

    def constrain(self) -> None:
        for project in self.projections:
            project()

"""Parameters of a loss, trained with the model."""

from collections.abc import Mapping

from torch import nn

from ..._support.errors import MinimandError
from ..loop.training import Training
from .hook import HOOKS, Hook


@HOOKS.register("loss_parameters")
class LossParametersHook(Hook):
    """Trains the parameters of a loss that is a module, with the optimizer of the model; checkpoints hold them."""

    loss: nn.Module

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        assert isinstance(training.loss_argument, nn.Module)
        self.loss = training.loss_argument.to(training.device)

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        loss = training.loss_argument
        is_wanted = isinstance(loss, nn.Module) and any(p.requires_grad for p in loss.parameters())
        if is_wanted and training.world.world_size > 1:
            raise MinimandError(
                f"loss is {type(loss).__name__}, which has parameters to train, and there are "
                f"{training.world.world_size} processes; expected one, or loss.requires_grad_(False)."
            )
        return is_wanted

    def trained_beside(self) -> list[nn.Module]:
        return [self.loss]

    def copies(self) -> Mapping[str, nn.Module]:
        return {"loss": nn.ModuleDict({"module": self.loss})}

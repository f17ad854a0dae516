"""The protocol of a training method, with defaults."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..._support.clock import timed
from ..._support.errors import MinimandError
from ...data import call, tensor_of
from ..loop.losses import Loss
from ..loop.problems import Plan, Problem


class Method:
    """A training method: it decides the update of each layer, and in which order problems are solved.

    Only `backward` has to be written. A method is a frozen dataclass whose fields are its options.
    """

    references: ClassVar[tuple[str, ...]] = ()
    """The keys of the method's sources in references.bib."""

    distributed: ClassVar[Literal["batches", "modules"] | None] = "batches"
    """How several processes share the work: each has a share of every batch (DDP, FSDP), or modules of its own that the
    method's plan places; None for a method of one process."""

    accumulates: ClassVar[bool] = True
    """Whether `backward` may be given a batch part by part (`Recipe.accumulate`): its gradients of the parts add up to
    those of the batch."""

    @property
    def takes_penalties(self) -> bool:
        """Whether a loss that `backward` is given may have penalties of layers added: all its gradients are summed."""
        return True

    def check(self, world_size: int) -> None:
        """Raise MinimandError where the method's options do not suit a number of processes; nothing is done yet."""

    def plan(self, model: nn.Module, example: Callable[[], Any], num_outputs: int, epochs: int) -> Plan:
        """The problems that a model is trained by; by default one: the whole model.

        `example` gives a few samples as the model sees them; `num_outputs` is the number of classes, or the length of a
        target; `epochs` are those of the recipe.
        """
        return Plan([Problem(model, model, epochs)], model)

    def backward(self, model: nn.Module, x: Any, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Fill the `.grad` of every parameter of a problem; returns the loss and the outputs, detached.

        `model` is the module of the problem, perhaps wrapped for several processes or compiled, and x a batch as it
        sees it; `loss` judges its outputs by the targets y.
        """
        raise MinimandError(f"{type(self).__name__} has no method backward(self, model, x, y, loss).")

    def metrics(self) -> dict[str, Any]:
        """Plain values that are added to the record of an epoch."""
        return {}

    def state(self) -> dict[str, Any]:
        """Plain values that go into checkpoints, so that the metrics are those of an undisturbed training."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """A training begins, with an empty state, or goes on with one that `state` gave."""


def chain_rule(model: nn.Module, x: Any, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Backpropagate the loss through all of a module; returns the loss and the outputs, detached."""
    outputs = call(model, x)
    return descend(loss(outputs, y), tensor_of(outputs))


@timed("backward")
def descend(value: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Fill the gradients of a loss value; returns it and the outputs, detached."""
    with torch.autocast(value.device.type, enabled=False):  # backward takes the precisions of forward by itself
        value.backward()
    return value.detach(), outputs.detach()

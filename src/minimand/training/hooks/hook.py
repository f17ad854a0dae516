"""Hooks of the training loop: what a training step does beside its method, one file each, found by presence."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from ..._support.errors import MinimandError
from ..._support.names.registry import Registry, subclass_of
from ...data import Data
from ..loop.losses import Loss

if TYPE_CHECKING:
    from ..loop.training import Training

Backward = Callable[[nn.Module, Any, Tensor, Loss], tuple[Tensor, Tensor]]
"""A function like `Method.backward`: it fills the gradients of a module and returns the loss and the outputs."""


class Hook:
    """Something that a training does at named moments, in no order among hooks. A subclass overrides those it needs."""

    hides_accuracy: ClassVar[bool] = False
    """Whether targets are changed so that a batch has no right answers to count."""

    def __init__(self, training: "Training") -> None:
        self.training = training

    @classmethod
    def is_wanted(cls, training: "Training") -> bool:
        """Whether a training's recipe or options ask for this hook; may raise MinimandError for what cannot be."""
        raise MinimandError(f"{cls.__name__} has no class method is_wanted(cls, training).")

    def select_data(self, data: Data) -> Data:
        """The data to train and judge on, before anything else."""
        return data

    def begin_problem(self, module: nn.Module) -> None:
        """A problem begins: its module, before it is wrapped for several processes."""

    def callable(self, module: nn.Module) -> nn.Module:
        """The module to call in place of a problem's module, wrapped for several processes already."""
        return module

    def copies(self) -> Mapping[str, nn.Module]:
        """Averages or snapshots of the problem's module that belong into checkpoints, by section."""
        return {}

    def trained_beside(self) -> list[nn.Module]:
        """Modules beside the problem's whose parameters are trained with it."""
        return []

    def mix(self, x: Any, y: Tensor) -> tuple[Any, Tensor]:
        """A prepared batch and its targets, changed together."""
        return x, y

    def before_step(self, step: int, x: Any) -> None:
        """A step on the batch x is about to be made."""

    def around_backward(self, backward: Backward) -> Backward:
        """The function that fills the gradients, perhaps wrapped."""
        return backward

    def measure(self) -> list[Tensor]:
        """Scalars of the gradients that are read together with the loss: one wait for the device."""
        return []

    def check(self, value: float, loss: Tensor, x: Any, measured: list[float]) -> None:
        """Judge a step before gradients change, by its loss over all processes, this process's, and `measure`."""

    def change_gradients(self, value: float, measured: list[float]) -> None:
        """Change the gradients, given the loss and the values of what `measure` returned."""

    def constrain(self) -> None:
        """Bring parameters back to where they may be, after the optimizer's step."""

    def after_step(self, value: float) -> None:
        """A step was made, with this loss."""

    def judged(self, module: nn.Module) -> nn.Module:
        """The module that is evaluated in place of a problem's module."""
        return module

    def after_epoch(self, judged: nn.Module) -> dict[str, Any]:
        """An epoch ended, with this module to be judged; plain values for its record."""
        return {}

    def final(self, module: nn.Module) -> nn.Module:
        """The module whose weights a problem ends with, in place of the evaluated one."""
        return module

    def state(self) -> dict[str, Any]:
        """Plain values that belong into a checkpoint."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` gave, from a checkpoint."""

    def result(self) -> dict[str, Any]:
        """The fields of the `FitResult` that this hook fills, by name."""
        return {}


HOOKS: Registry[type[Hook]] = Registry("hook", "hooks", __name__.rpartition(".")[0], subclass_of(Hook))
"""The hooks by name; a file in this folder registers its own."""


def check_images(field: str, data: Data, value: float, more: str = "") -> None:
    """Raise MinimandError where the samples of `data` are no images, which a field of a recipe, now `value`, needs."""
    if len(data.shape) != 3:
        raise MinimandError(
            f"Recipe.{field} is {value}, but a sample of {data.name} has the shape {data.shape}; expected images, "
            f"(channels, height, width), or {field}=0.{more}"
        )

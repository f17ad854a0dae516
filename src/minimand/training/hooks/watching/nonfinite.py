"""Checks for losses and weights that are NaN or infinite, and a search for where they began."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...._support.errors import MinimandError
from ....data import call
from ....networks.undisturbed import undisturbed
from ....recipes.recipe import Precision
from ...loop.evaluate import autocast
from ...loop.losses import Loss
from ...loop.training import Training
from ..hook import HOOKS, Backward, Hook


class NonFiniteLossError(MinimandError, ArithmeticError):
    """Training met a loss, a gradient or a weight that is NaN or infinite. The message names where it began."""


@HOOKS.register("nonfinite")
class NonFiniteHook(Hook):
    """Ends a training whose loss or gradient becomes NaN or infinite, with the place where it began.

    A mask can keep the loss finite while gradients are NaN: their norm, `norm`, is read together with the loss.
    """

    norm: Tensor
    batch: tuple[Any, Tensor, Loss]
    """The inputs, targets and loss of the present step."""

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        return True

    def around_backward(self, backward: Backward) -> Backward:
        def noted(model: nn.Module, x: Any, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
            self.batch = x, y, loss
            return backward(model, x, y, loss)

        return noted

    def measure(self) -> list[Tensor]:
        self.norm = self._norm(self._gradients())
        return [self.norm]

    def _gradients(self) -> list[Tensor]:
        groups = self.training.optimizer.param_groups
        return [p.grad for group in groups for p in group["params"] if p.grad is not None]

    def _norm(self, gradients: list[Tensor]) -> Tensor:
        return self.training.world.full(nn.utils.get_total_norm(gradients).to(self.training.device))

    def check(self, value: float, loss: Tensor, x: Any, measured: list[float]) -> None:
        training = self.training
        if not math.isfinite(value):
            training.world.unwrap()
            began = training.world.describe_where(
                not loss.isfinite(), lambda: origin(training.problem.module, x, training.recipe.precision)
            )
            raise NonFiniteLossError(f"the loss is {value} at step {training.step}. It began {began}.")
        if math.isfinite(measured[0]):
            return
        broken = broken_gradient(training.problem.trained) or broken_gradient(nn.ModuleList(training.trained_beside))
        if broken is None:  # the squares of finite gradients overflow, and clipping by that norm would leave zeros
            self.norm = self._norm([gradient.double() for gradient in self._gradients()])
            return
        training.world.unwrap()
        cause = broken_function(training.problem.module, *self.batch, training.recipe.precision)
        raise NonFiniteLossError(
            f"the loss is {value} at step {training.step}, but the gradient of {broken}{cause}. The step was not made."
        )


def check_weights(model: nn.Module, step: int) -> None:
    """Raise NonFiniteLossError for a weight that is not finite: no checkpoint of such takes the place of a good one."""
    broken = broken_parameter(model)  # a buffer may be infinite on purpose, as masks are
    if broken:
        raise NonFiniteLossError(f"no weight may be infinite or NaN. After step {step} there is {broken}.")


def origin(model: nn.Module, x: Any, precision: Precision = "fp32") -> str:
    """Run the model on the batch again, as training does, and say what was not finite first."""
    if not _finite(x):
        return "in the batch itself: an input is not finite"
    broken = broken_parameter(model)
    if broken:
        return f"in the parameter {broken}: lower the learning rate"
    origins: list[str] = []
    entered: list[bool] = []

    def enter(_: nn.Module, inputs: object) -> None:
        entered.append(_finite(inputs))

    def leave(module: nn.Module, inputs: object, output: object) -> None:
        # Modules inside return first, so the innermost is named.
        if entered.pop() and not origins and not _finite(output):
            kind = type(module).__name__
            name = f"{names[module]} ({kind})" if names[module] else f"the model ({kind})"
            inside = ", between its modules" if list(module.children()) else ""
            origins.append(f"in the output of {name}, whose inputs are finite{inside}")

    names = {module: name for name, module in model.named_modules()}
    hooks = [m.register_forward_pre_hook(enter) for m in names] + [m.register_forward_hook(leave) for m in names]
    try:
        with undisturbed(model), torch.no_grad(), autocast(next(model.parameters()).device, precision):
            call(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    return origins[0] if origins else "in the loss: the outputs are finite"


def broken_parameter(model: nn.Module) -> str | None:
    """The first parameter that is not finite, with what it became; None if there is none."""
    broken = ((name, p) for name, p in model.named_parameters() if not _finite(p))
    return next((f"{name}, which an earlier update made {_worst(p)}" for name, p in broken), None)


def broken_gradient(model: nn.Module) -> str | None:
    """The last parameter whose gradient is not finite, nearest to where it began, with what it is; None if none is."""
    gradients = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    return next((f"{name} is {_worst(g)}" for name, g in reversed(gradients) if not _finite(g)), None)


def broken_function(model: nn.Module, x: Any, y: Tensor, loss: Loss, precision: Precision = "fp32") -> str:
    """Run the model on the batch again, and say which function was the first to give NaN as a gradient, if one does."""
    try:
        with undisturbed(model), warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            with torch.autograd.set_detect_anomaly(True), autocast(y.device, precision):
                value = loss(call(model, x), y)
                torch.autograd.grad(value, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    except RuntimeError as error:
        name = str(error).partition("'")[2].partition("Backward")[0]
        return f": the derivative of {name.lower()} is NaN" if "returned nan values" in str(error) else ""
    return ""


def _finite(value: object) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    return all(_finite(part) for part in value) if isinstance(value, tuple | list) else True


def _worst(value: Tensor) -> str:
    return "NaN" if bool(value.isnan().any()) else "infinite"

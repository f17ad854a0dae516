"""Gradients that are NaN while the loss is finite, and weights that overflow."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.training import NonFiniteLossError
from minimand.training.loop.events import Event, StepDone


class _Masked(nn.Module):
    """A function whose derivative is NaN or infinite somewhere, behind a mask that hides it in the forward pass."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, self.function(x), torch.zeros_like(x))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sqrt": torch.sqrt,
    "pow": lambda x: x**0.5,
    "norm": lambda x: x * torch.linalg.vector_norm(x * 0, dim=1, keepdim=True).sqrt(),
}


def _data() -> Any:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    y = x[:, :3].argmax(1)
    return (x, y), (x, y)


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("method", ["backpropagation", "layerwise"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_behind_a_mask_ends_the_run_before_the_step_that_would_spread_it(
    name: str, method: str, clip: float
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 8),
        nn.ReLU(),
        nn.Linear(8, 8),
        _Masked(FUNCTIONS[name]),
        nn.Linear(8, 8),
        nn.Tanh(),
        nn.Linear(8, 3),
    )
    events: list[Event] = []
    with pytest.raises(
        NonFiniteLossError, match="the gradient of .* is (NaN|infinite).*The step was not made"
    ) as caught:
        mm.fit(model, _data(), method=method, recipe=mm.Recipe(20, 32, clip=clip), callbacks=[events.append])
    assert all(p.isfinite().all() for p in model.parameters())
    steps = [event for event in events if isinstance(event, StepDone)]
    assert f"at step {len(steps)}" in str(caught.value)
    if method == "backpropagation" and name != "norm":
        assert not steps
        assert f"the gradient of 2.bias is NaN: the derivative of {name} is NaN" in str(caught.value)


def test_squares_of_finite_gradients_may_overflow() -> None:
    class Steep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 1e25 / 1e25 + (x * 1e25 - (x * 1e25).detach())

    model = nn.Sequential(nn.Linear(6, 3), Steep())
    mm.fit(model, _data(), recipe=mm.Recipe(1, 32, mm.SGD(1e-30, weight_decay=0.0)))
    gradient = model[0].weight.grad
    assert isinstance(gradient, Tensor)
    assert gradient.isfinite().all()
    assert math.isinf(gradient.norm().item())
    mm.fit(model, _data(), recipe=mm.Recipe(1, 32, mm.SGD(1e-30, weight_decay=0.0), clip=1.0))
    norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm().item()
    assert norm == pytest.approx(1)  # and not 0, which a norm of infinity would make of it


def test_a_gradient_of_a_loss_is_looked_at_too() -> None:
    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
            return nn.functional.cross_entropy(outputs + self.weight.sqrt(), y)

    with pytest.raises(NonFiniteLossError, match="at step 0, but the gradient of 0.weight is"):
        mm.fit(nn.Linear(6, 3), _data(), recipe=mm.Recipe(1, 32), loss=Loss())


def test_weights_that_overflow_behind_a_mask_end_the_epoch() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.rest = nn.Parameter(torch.ones(6)), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.rest(x) + 1e-30 * (self.weight * 1e30).clamp(-1, 1).sum()

    model = Hidden()

    def overflow(event: Event) -> None:
        if isinstance(event, StepDone):
            model.weight.data.fill_(torch.inf)

    with pytest.raises(NonFiniteLossError, match="After step 2 there is weight"):
        mm.fit(model, _data(), recipe=mm.Recipe(3, 32), callbacks=[overflow])

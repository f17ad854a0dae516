"""LSUV against the package lsuv (pip install lsuv): forward passes, time, and the cases that trip it.

Run: python benchmarks/initialization.py
"""

import contextlib
import importlib
import io
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from turns import machine, seconds

import minimand as mm
from minimand._support.tables import table_text
from minimand.trainability.measure.flow import LayerCall
from minimand.trainability.measure.tracing import measured, trace, undisturbed


class Backwards(nn.Module):
    """Layers that are registered last to first."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.middle, self.first = nn.Linear(32, 4), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(3 * x).relu()).relu())


class Shared(nn.Module):
    """A network of one layer that runs four times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            x = self.layer(x).relu()
        return self.head(x)


class ZeroBranch(nn.Module):
    """A residual block that gives x + 0 at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x).relu())


class Standardized(nn.Linear):
    """A linear layer whose output does not follow the scale of its weight."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, (self.weight - self.weight.mean()) / self.weight.std(), self.bias)


def plain(depth: int) -> nn.Module:
    return nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(32, 32), nn.ReLU())])


X = torch.randn(256, 32, generator=torch.Generator().manual_seed(0))
CASES: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "weight norm": (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(32, 32))), 3 * X),
    "orthogonal parametrization": (lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(32, 32))), 5 * X),
    "registered backwards": (Backwards, X),
    "shared layer": (Shared, X),
    "batch of zeros": (lambda: plain(3), torch.zeros_like(X)),
    "batch with NaN": (lambda: plain(3), X.clone().fill_diagonal_(float("nan"))),
    "zero-initialized branches": (lambda: nn.Sequential(*[ZeroBranch() for _ in range(20)]), X),
    "standardized weights": (lambda: nn.Sequential(Standardized(32, 32), nn.ReLU(), nn.Linear(32, 32)), X),
}


def outcome(model: nn.Module, batch: Tensor, apply: Callable[[nn.Module, Tensor], Any]) -> str:
    """What a user is told, and what the network then does."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = apply(model, batch)
    except ValueError as error:
        return f"refused: {error}"[:110]
    messages = [*map(str, getattr(report, "notes", ())), *(str(w.message) for w in caught)]
    if not all(p.isfinite().all() for p in model.parameters()):
        return "weights that are not finite" + (f"; {messages[0]}"[:70] if messages else "")
    x = torch.nan_to_num(batch)
    stds = deviations(model, x if x.any() else X)
    output = float(model(x).detach().var())
    text = f"layers' std {min(stds):.3g} to {max(stds):.3g}, output variance {output:.3g}"
    hooks = sum(len(m._forward_hooks) for m in model.modules())
    text += f", hooks left: {hooks}" if hooks else ""
    return text + (f"; {messages[0]}"[:70] if messages else "")


def after_a_failure(apply: Callable[[nn.Module, Tensor], Any]) -> Callable[[nn.Module, Tensor], Any]:
    """A call that the model raises in, then another."""

    def both(model: nn.Module, batch: Tensor) -> Any:
        with contextlib.suppress(RuntimeError, ValueError):
            apply(model, batch[:, :5])
        return apply(model, batch)

    return both


def deviations(model: nn.Module, batch: Tensor) -> list[float]:
    stds: list[float] = []

    def look(call: LayerCall, y: Tensor) -> None:
        stds.append(float(y.std()))

    with undisturbed(model), torch.no_grad():
        measured(model)
        trace(model, batch, look)
    return stds


def cost(depth: int, apply: Callable[[nn.Module, Tensor], Any]) -> tuple[int, float]:
    """Forward passes, and milliseconds of the processor: the median of five."""
    passes, times = 0, []
    for _ in range(5):
        model, count = plain(depth), 0

        def counted(*_: Any) -> None:
            nonlocal count
            count += 1

        handle = model.register_forward_pre_hook(counted)
        with contextlib.redirect_stdout(io.StringIO()):
            times.append(seconds(lambda model=model: apply(model, X)))
        passes = count
        handle.remove()
    return passes, 1e3 * sorted(times)[2]


def main() -> None:
    try:
        package = importlib.import_module("lsuv.lsuvinit")
    except ModuleNotFoundError:
        raise SystemExit("the package lsuv is what this compares with: pip install lsuv") from None
    tools: dict[str, Callable[[nn.Module, Tensor], Any]] = {
        "minimand": lambda model, batch: mm.initialize(model, "lsuv", batch=batch),
        "lsuv": lambda model, batch: package.LSUVinit(model, batch, verbose=False),
    }
    torch.set_num_threads(1)
    print(f"{machine()}, lsuv {version('lsuv')}, seed 0")
    rows = []
    for depth in (20, 40):
        for name, apply in tools.items():
            passes, milliseconds = cost(depth, apply)
            rows.append([f"{depth} layers", name, str(passes), f"{milliseconds:.1f}"])
    print(table_text(["", "tool", "forward passes", "ms"], rows, labels=2))
    print()
    for case, (make, batch) in CASES.items():
        print(case)
        for name, apply in tools.items():
            torch.manual_seed(0)
            print(f"  {name:10}{outcome(make(), batch, apply)}")
    print("after a call that failed")
    for name, apply in tools.items():
        torch.manual_seed(0)
        print(f"  {name:10}{outcome(plain(3), X, after_a_failure(apply))}")


if __name__ == "__main__":
    main()

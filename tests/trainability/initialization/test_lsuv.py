"""LSUV: one forward pass, and each of the cases that trip a plain implementation."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import minimand as mm
from minimand.networks.undisturbed import undisturbed
from minimand.trainability.measure.flow import LayerCall
from minimand.trainability.measure.tracing import measured, trace


def deviations(model: nn.Module, batch: Tensor) -> dict[str, float]:
    """The deviations of what every layer returns, by a pass of their own."""
    by_layer: dict[str, float] = {}

    def look(call: LayerCall, y: Tensor) -> None:
        by_layer[call.name] = float(y.std(correction=0))

    with undisturbed(model), torch.no_grad():
        measured(model)
        trace(model, batch, look)
    return by_layer


def deep(depth: int = 20, width: int = 32) -> nn.Sequential:
    return nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(width, width), nn.ReLU())])


def test_every_layer_ends_at_one_after_a_single_forward_pass() -> None:
    count = 0

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1, groups=1)
            self.body = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, groups=8))
            self.up, self.attention = (
                nn.ConvTranspose2d(8, 6, 4, stride=2),
                nn.MultiheadAttention(6, 2, batch_first=True),
            )
            self.dropout, self.head = nn.Dropout(0.5), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            nonlocal count
            count += 1
            rows = self.up(self.body(self.stem(x))).flatten(2).transpose(1, 2)
            return self.head(F.gelu(self.dropout(self.attention(rows, rows, rows)[0])))

    model: Any = Counting()
    x = 3 + torch.randn(8, 3, 6, 6)
    report = mm.initialize(model, "lsuv", batch=x)
    assert count == 1
    for name, std in deviations(model, x).items():
        assert std == pytest.approx(1.0, abs=1e-3), name
    assert not report.notes
    assert model.body[0].running_mean.count_nonzero() == 0


def test_layers_are_scaled_in_the_order_they_run_however_they_are_registered() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.middle, self.first = nn.Linear(16, 4), nn.Linear(16, 16), nn.Linear(3, 16)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.middle(self.first(x).relu()).relu())

    model, x = Backwards(), torch.randn(50, 3)
    mm.initialize(model, "lsuv", batch=x)
    assert list(deviations(model, x).values()) == pytest.approx([1.0] * 3, abs=1e-4)


def test_weight_norm_is_scaled_through_its_inverse_and_orthogonality_is_not_broken() -> None:
    x = torch.randn(50, 8)
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 8)), nn.Tanh(), nn.Linear(8, 8))
    mm.initialize(model, "lsuv", batch=4 * x)
    assert list(deviations(model, 4 * x).values()) == pytest.approx([1.0] * 2, abs=1e-4)
    orthogonal: Any = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), parametrizations.orthogonal(nn.Linear(8, 8)))
    before = {name: value.clone() for name, value in orthogonal.state_dict().items()}
    with pytest.raises(ValueError, match=r"2.weight is parametrized by _Orthogonal.*exclude=\('2.weight',\)"):
        mm.initialize(orthogonal, "lsuv", batch=x)
    for name, value in orthogonal.state_dict().items():
        assert torch.equal(value, before[name])
    report = mm.initialize(orthogonal, "lsuv", batch=x, exclude=("2",))
    assert report.left_alone["2"] == "excluded"
    assert deviations(orthogonal, x)["0"] == pytest.approx(1.0, abs=1e-4)


def test_shared_layers_and_tied_weights_are_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.shared(self.shared(x).relu())

    with pytest.raises(ValueError, match="shared runs more than once"):
        mm.initialize(Twice(), "lsuv", batch=torch.randn(4, 8))
    tied: Any = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match=r"1.weight and 0.weight are one parameter"):
        mm.initialize(tied, "lsuv", batch=torch.randn(4, 8))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(4, 32), "output of 0 is 0 everywhere.*constant"),
        (torch.full((4, 32), float("nan")), "128 entries that are not finite"),
        (torch.zeros(0, 32), r"shape \(0, 32\)"),
        (None, "lsuv measures the model on data; give batch="),
    ],
)
def test_batches_that_say_nothing_are_refused_and_leave_the_model(batch: Any, message: str) -> None:
    model = deep(3)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=message):
        mm.initialize(model, "lsuv", batch=batch)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    # Nothing is remembered of a call that failed.
    x = torch.randn(64, 32)
    mm.initialize(model, "lsuv", batch=x)
    assert list(deviations(model, x).values()) == pytest.approx([1.0] * 3, abs=1e-4)


def test_branches_that_start_at_zero_stay_there() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
            nn.init.zeros_(self.second.weight)
            nn.init.zeros_(self.second.bias)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.second(self.first(x).relu())

    model, x = nn.Sequential(*[Block() for _ in range(20)]), torch.randn(64, 8)
    report = mm.initialize(model, "lsuv", batch=x)
    torch.testing.assert_close(model(x), x)
    assert report.left_alone["3.second.weight"] == "its weights are 0"
    assert deviations(model, x)["7.first"] == pytest.approx(1.0, abs=1e-4)


def test_what_does_not_converge_is_reported_with_what_it_reached() -> None:
    class Standardized(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            w = self.weight
            return F.conv2d(input, (w - w.mean()) / w.std(), self.bias, padding=1)

    model = nn.Sequential(Standardized(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    x = torch.randn(4, 3, 8, 8)
    report = mm.initialize(model, "lsuv", batch=x)
    note = report.notes[0]
    assert note.startswith("0 did not converge")
    by_layer = deviations(model, x)
    assert f"{by_layer['0']:.4g}" in note
    assert by_layer["2"] == pytest.approx(1.0, abs=1e-4)


def test_a_network_whose_samples_become_alike_is_noted() -> None:
    model = deep(60)
    report = mm.initialize(model, "lsuv", batch=1 + 1e-5 * torch.randn(16, 32))
    assert any("can hardly tell samples apart" in note for note in report.notes)


def test_frozen_and_unused_layers_keep_their_weights_and_half_precision_works() -> None:
    model: Any = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).bfloat16()
    model[0].requires_grad_(False)
    model.extra = nn.Identity()
    frozen = model[0].weight.clone()
    x = torch.randn(64, 8).bfloat16()
    report = mm.initialize(model, "lsuv", batch=x)
    assert torch.equal(model[0].weight, frozen)
    assert report.left_alone["0.weight"] == "frozen"
    assert deviations(model, x)["2"] == pytest.approx(1.0, abs=0.02)


def test_a_single_sample_for_batch_normalization_is_explained() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8))
    with pytest.raises(ValueError, match=r"shape \(1, 8\).*more than 1 value per channel.*two samples or more"):
        mm.initialize(model, "lsuv", batch=torch.randn(1, 8))
    assert "one sample" in mm.initialize(deep(3, 8), "lsuv", batch=torch.randn(1, 8)).notes[0]

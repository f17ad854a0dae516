"""What surgery did to a model: told in order, kept by copies, and undone."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.surgery.normalizations import NORMALIZATIONS, OfWeights


class Residual(nn.Module):
    """A block that keeps (N, 4, H, W): normalization, activation, convolution, and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.activation = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.convolution = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convolution(self.activation(self.norm(x)))


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    blocks = nn.Sequential(*[Residual() for _ in range(3)])
    return nn.Sequential(nn.Conv2d(3, 4, 3), blocks, nn.PReLU(), nn.Flatten(), nn.Linear(4 * 16, 2))


X = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(1))

OPERATIONS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "rewire": lambda m: mm.rewire(m, "heavy_ball(momentum=Learnable(0.5, 0, 1))"),
    "harden": lambda m: mm.harden(m, "quantized_relu(levels=4)"),
    "harden with few bits": lambda m: mm.harden(m, mm.Sign(), weight_bits=2),
    **{
        name: lambda m, kind="group(groups=2)" if name == "group" else name: mm.normalize(m, kind)
        for name in NORMALIZATIONS
        if name != "batch"
    },
}


def _as_it_was(model: nn.Module, before: nn.Module, modules: list[nn.Module], parameters: list[nn.Parameter]) -> None:
    assert [type(m) for m in model.modules()] == [type(m) for m in before.modules()]
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
    assert str(model) == str(before)
    now, then = model.state_dict(), before.state_dict()
    assert list(now) == list(then)
    assert all(torch.equal(now[name], then[name]) for name in now)
    assert torch.equal(model.eval()(X), before.eval()(X))
    assert len(list(model.parameters())) == len(parameters)
    assert not mm.changes(model)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_undo_brings_back_the_very_modules_names_and_values(operation: str) -> None:
    model = _model()
    model(X)
    before, modules, parameters = copy.deepcopy(model), list(model.modules()), list(model.parameters())
    names = list(model.state_dict())
    assert OPERATIONS[operation](model) is model
    assert list(before.state_dict()) == names
    record = mm.changes(model)[-1]
    assert record.undo() is model
    _as_it_was(model, before, modules, parameters)
    if operation != "weight":
        assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))


def test_all_operations_are_undone_in_reverse_order() -> None:
    model = _model()
    before, modules, parameters = copy.deepcopy(model), list(model.modules()), list(model.parameters())
    for operation in ("layer", "weight", "rewire", "harden", "none"):
        OPERATIONS[operation](model)
    text = str(mm.changes(model))
    order = ["normalized by layer:", "normalized by weight:", "Sequential rewired:", "thresholds in the", "by none:"]
    assert sorted(order, key=text.index) == order
    with pytest.raises(ValueError, match="undo the last one first"):
        mm.changes(model)[0].undo()
    assert mm.changes(model).undo() is model
    _as_it_was(model, before, modules, parameters)
    assert str(mm.changes(model)) == "Sequential was not changed"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_have_records_of_their_own(copied: Callable[[Any], Any]) -> None:
    model = _model()
    expected = model.eval()(X)
    for operation in ("layer", "rewire", "harden with few bits"):
        OPERATIONS[operation](model)
    other = copied(model)
    assert str(mm.changes(other)) == str(mm.changes(model))
    assert torch.equal(other(X), model(X))
    assert mm.changes(other).undo() is other
    assert torch.equal(other(X), expected)
    assert len(mm.changes(model)) == 3
    assert not torch.equal(model(X), expected)
    assert not any("change" in name for name in model.state_dict())


@pytest.mark.parametrize("kind", ["standardized", "weight"])
def test_undo_in_a_copy_leaves_the_computed_weights_of_the_other(kind: str) -> None:
    """Copies of a parametrized layer share the class that torch made for it."""
    model = _model().eval()
    before = model(X)
    other = copy.deepcopy(mm.normalize(model, kind))
    expected = model(X)
    assert torch.equal(mm.changes(other).undo()(X), before)
    assert torch.equal(model(X), expected)
    assert torch.equal(mm.changes(model).undo()(X), before)


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in ("none", "rewire")])
def test_what_was_trained_since_stays_trained_after_undo(operation: str) -> None:
    model = OPERATIONS[operation](_model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(X).square().sum().backward()
    optimizer.step()
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    computed = {name: m.weight.detach().clone() for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    mm.changes(model).undo()
    for name, value in model.state_dict().items():
        layer = name.removesuffix(".weight")
        if operation == "weight" and layer in computed:
            torch.testing.assert_close(value, computed[layer])
        elif "running" not in name and "num_batches" not in name:
            places = [name, f"{layer}.parametrizations.weight.original", name.replace("norm.", "norm.norm.")]
            places = [place for place in places if place in trained]
            assert not places or torch.equal(value, trained[places[0]]), name
    if isinstance(NORMALIZATIONS.get(operation), type) and issubclass(NORMALIZATIONS[operation], OfWeights):
        assert not any("parametrizations" in name for name in model.state_dict())


def test_what_comes_back_is_where_the_model_is_now() -> None:
    model = mm.harden(mm.normalize(_model(), "group(groups=2)"), "sign")
    model.double().eval()
    mm.changes(model).undo()
    assert {t.dtype for t in model.state_dict().values() if t.is_floating_point()} == {torch.double}
    assert not any(m.training for m in model.modules())
    assert model(X.double()).isfinite().all()


def test_removed_filters_cannot_be_brought_back_and_nothing_else_is_undone_then() -> None:
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in ((4, 6), (6, 5))]
    model = nn.Sequential(*layers, nn.Linear(5, 2))
    mm.remove_filters(model, {"0.0": [0, 2, 3]})
    mm.harden(model, "sign")
    assert str(mm.changes(model)).startswith("filters left:\n  0.0: 3 of 6\nthresholds in the place of 2")
    with pytest.raises(ValueError, match="removed filters cannot be brought back"):
        mm.changes(model).undo()
    assert len(mm.changes(model)) == 2
    mm.changes(model)[-1].undo()
    assert isinstance(model[0][1], nn.ReLU)  # pyright: ignore[reportIndexIssue]
    with pytest.raises(ValueError, match="removed filters cannot be brought back"):
        mm.changes(model)[-1].undo()


def test_a_layer_of_two_names_is_one_layer_of_few_bits_and_real_again_after_undo() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(4, 2))
    mm.harden(model, "sign", weight_bits=1)
    assert model[2] is model[4]
    assert type(model[2]).__name__ == "FewBitLinear"
    assert model[2].weight is shared.weight
    mm.changes(model).undo()
    assert model[2] is model[4] is shared


@pytest.mark.parametrize("memory", ["store", "reversible"])
@pytest.mark.parametrize(
    "change", [lambda m: mm.normalize(m, "rms"), lambda m: mm.normalize(m, "none"), lambda m: mm.harden(m, "sign")]
)
def test_what_takes_a_modules_place_has_its_hooks(change: Any, memory: Any) -> None:
    """Those of a wiring too: branches are entered at normalizations, which are replaced after it or before."""

    def model() -> nn.Module:
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True, norm_first=True)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    x, calls = torch.randn(2, 4, 8), []
    before = mm.rewire(change(model()), "heavy_ball(momentum=0.5)", at="branches", memory=memory)
    after = mm.rewire(model(), "heavy_ball(momentum=0.5)", at="branches", memory=memory)
    norm = after.get_submodule("layers.0.norm1")
    handle = norm.register_forward_hook(lambda *_: calls.append(1))
    change(after)
    torch.testing.assert_close(after(x), before(x))
    assert not torch.allclose(after(x), change(model())(x))
    assert calls
    assert torch.equal(mm.changes(after).undo()(x), model()(x))
    handle.remove()
    calls.clear()
    after(x)
    assert not calls

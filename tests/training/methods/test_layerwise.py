"""Training layer by layer: what moves, what is kept in memory, and what it comes to."""

import copy
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

import minimand as mm
from layerwise_models import MODELS, digits, new_model, recipe, same
from minimand.layers.heads import AUXILIARIES, auxiliary
from minimand.networks.as_network import as_network
from minimand.report.size import saved_bytes
from minimand.training.loop.events import EpochDone, Event, StepDone
from minimand.training.loop.state_batch import StateBatch
from minimand.training.methods.local.layerwise import Shallow


@pytest.mark.parametrize("name", MODELS)
def test_a_block_moves_itself_and_its_classifier_and_nothing_else(name: str) -> None:
    """At the end of each problem, every tensor that is not of its block, statistics included, is what it was."""
    model = new_model(name)
    network = as_network(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    moved: list[set[str]] = []

    def look(event: Event) -> None:
        if isinstance(event, EpochDone):
            now = model.state_dict()
            moved.append({key for key in now if not torch.equal(now[key], before[key])})
            before.update({key: value.clone() for key, value in now.items()})

    mm.fit(model, (digits(), digits(64)), method=mm.Layerwise(), recipe=recipe(), callbacks=[look])
    assert len(moved) == len(network.layers)
    names = {id(module): key for key, module in model.named_modules()}
    for j, changed in enumerate(moved):
        own = [network.layers[j], *([network.stem] if j == 0 else []), *([network.head] if j == len(moved) - 1 else [])]
        inside = {f"{names[id(m)]}." for part in own for m in part.modules() if id(m) in names}
        inside -= {"."}
        stray = {key for key in changed if not key.startswith(tuple(inside)) and "coefficients" not in key}
        assert not stray
        assert changed


def test_a_learnable_coefficient_moves_with_its_layer_alone() -> None:
    model = cast(Any, new_model("learnable"))
    (stage, *_) = [stage for stage in model.stages if len(stage.layers) > 1]
    index = model.layers.index(stage.layers[1])
    inputs: list[Tensor] = []

    def look(event: Event) -> None:
        if isinstance(event, EpochDone):
            inputs.append(stage.coefficients["momentum"].detach().clone())

    mm.fit(model, (digits(), digits(64)), method=mm.Layerwise(), recipe=recipe(2), callbacks=[look])
    first, last = inputs[2 * index - 1], inputs[2 * index + 1]
    assert first[1] != last[1]
    assert torch.equal(first[[k for k in range(len(first)) if k != 1]], last[[k for k in range(len(last)) if k != 1]])


@pytest.mark.parametrize("name", MODELS)
def test_no_gradient_crosses_a_boundary_and_the_last_problem_is_the_network(name: str) -> None:
    model = new_model(name).eval()
    x = digits(8)[0]
    plan = mm.Layerwise(hidden_layers=2).plan(model, lambda: x, 10, 1)
    for problem in plan.problems:
        model.zero_grad()
        problem.module(x).square().sum().backward()
        own = {id(p) for p in problem.trained.parameters()}
        reached = {id(p) for p in model.parameters() if p.grad is not None}
        assert reached <= own
        assert reached
    torch.testing.assert_close(plan.problems[-1].module(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["momentum", "chain"])
def test_what_is_kept_for_the_backward_pass_is_that_of_the_block(name: str) -> None:
    """As much as where the state below is given: nothing is kept of earlier blocks. End to end keeps more."""
    model = new_model(name)
    x, y = digits(32)
    plan = mm.Layerwise().plan(model, lambda: x, 10, 1)

    def kept(module: nn.Module, state: Any) -> int:
        own = nn.ModuleList([model, plan.saved])
        return saved_bytes(lambda: nn.functional.cross_entropy(module.train()(state), y), own)

    state: Any = x
    for problem in plan.problems:
        shallow = cast(Shallow, problem.module)
        assert kept(shallow, x) == kept(shallow, state)
        below = state.state if isinstance(state, StateBatch) else state
        state = StateBatch(*tree_flatten(shallow.through(below)))
    assert max(kept(problem.module, x) for problem in plan.problems) < 0.7 * kept(model, x)


def test_an_identity_above_keeps_the_risk() -> None:
    """Proposition 3.1: ReLU of the identity on what ReLU gave, and the classifier below used again."""
    torch.manual_seed(0)
    x = digits(32)[0]
    chain = nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(5, 5, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(5, 5, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 10),
    )
    plan = mm.Layerwise(hidden_layers=2).plan(chain, lambda: x, 10, 1)
    first, second = plan.problems[0].module, cast(Shallow, plan.problems[1].module)
    before = first(x)
    nn.init.dirac_(cast(Any, chain[2]).weight)
    nn.init.zeros_(cast(Any, chain[2]).bias)
    second.head.load_state_dict(cast(Shallow, first).head.state_dict())
    torch.testing.assert_close(second(x), before)


@pytest.mark.parametrize("at", [3, 7, 12, 17])
def test_a_run_that_stops_in_any_layer_goes_on_to_the_same_bits(at: int, tmp_path: Path) -> None:
    data, method = (digits(), digits(64)), mm.Layerwise(hidden_layers=2)
    options: dict[str, Any] = {
        "method": method,
        "recipe": mm.Recipe(2, 64, mm.SGD(0.05), ema=0.9, precision="fp32"),
        "checkpoint_every": 0,
    }
    whole = new_model("momentum")
    expected = mm.fit(whole, data, **options)

    class Killed(Exception):
        pass

    def kill(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == at:
            raise Killed

    with pytest.raises(Killed):
        mm.fit(new_model("momentum"), data, run=tmp_path / "run", callbacks=[kill], **options)
    again = new_model("momentum")
    result = mm.fit(again, data, run=tmp_path / "run", **options)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert [h["test_loss"] for h in result.history] == [h["test_loss"] for h in expected.history]
    finished = new_model("momentum")
    mm.fit(finished, data, run=tmp_path / "run", **options)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), finished.state_dict().values(), strict=True)
    )


def trained(tmp: Path | None = None, **options: Any) -> tuple[nn.Module, mm.training.FitResult]:
    model = new_model("momentum")
    how = mm.Recipe(2, 64, mm.SGD(0.05), mm.StepDecay(at=()), augmentation=mm.Augmentation(), precision="fp32")
    return model, mm.fit(model, (digits(), digits(64)), method=mm.Layerwise(**options), recipe=how, run=tmp)


def test_kept_activations_change_nothing_but_the_cost(tmp_path: Path) -> None:
    (off, plain), (cached, remembered), (filed, _) = (
        trained(),
        trained(cache="memory"),
        trained(tmp_path / "run", cache="disk"),
    )
    for x, y in zip(off.state_dict().values(), cached.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)
    assert [h["test_loss"] for h in plain.history] == pytest.approx(
        [h["test_loss"] for h in remembered.history], rel=1e-3
    )
    assert same(cached, filed)
    assert not list(tmp_path.rglob("activations-*"))


def test_what_is_below_a_block_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = cast(Any, new_model("momentum"))
    calls: list[int] = []
    model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    counts: list[int] = []

    def look(event: Event) -> None:
        if isinstance(event, EpochDone):
            counts.append(len(calls))

    mm.fit(model, (digits(), digits(64)), method=mm.Layerwise(cache="memory"), recipe=recipe(2), callbacks=[look])
    # Made once when the second block begins, in two batches of 256 at most, and never again.
    assert counts[2] - counts[1] == 2
    assert len(set(counts[2:])) == 1


def test_a_run_with_kept_views_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    data = (digits(), digits(64))
    augmented = mm.Recipe(1, 64, mm.SGD(0.05), augmentation=mm.Augmentation(pad=1))
    options: dict[str, Any] = {
        "method": mm.Layerwise(cache="disk", views=3, cache_precision="bf16"),
        "recipe": augmented,
        "checkpoint_every": 0,
    }
    expected = new_model("momentum")
    mm.fit(expected, data, **options)

    class Killed(Exception):
        pass

    def kill(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 10:
            raise Killed

    with pytest.raises(Killed):
        mm.fit(new_model("momentum"), data, run=tmp_path / "run", callbacks=[kill], **options)
    assert not list(tmp_path.rglob("activations-*"))
    again = new_model("momentum")
    mm.fit(again, data, run=tmp_path / "run", **options)
    assert same(expected, again)
    one = new_model("momentum")
    mm.fit(one, data, **{**options, "method": mm.Layerwise(cache="disk", cache_precision="bf16")})
    assert not same(expected, one)


@pytest.mark.parametrize(("cache", "name"), [("memory", "free_memory"), ("disk", "shutil.disk_usage")])
def test_no_room_is_told_before_anything_begins(
    cache: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    free = 10_000.0 if cache == "memory" else type("Usage", (), {"free": 10_000})()
    monkeypatch.setattr(f"minimand.training.methods.local.activations.{name}", lambda *_: free)
    model, before = new_model("momentum"), new_model("momentum")
    with pytest.raises(ValueError, match=rf"cache is '{cache}' and needs [\d.]+ GB, of which 1e-05 GB are free"):
        mm.fit(model, (digits(), digits(64)), method=mm.Layerwise(cache=cast(Any, cache)), run=tmp_path / "run")
    assert same(model, before)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_what_cannot_be_kept_is_refused() -> None:
    data, cached = (digits(64), digits(64)), mm.Layerwise(cache="memory")
    with pytest.raises(ValueError, match="the recipe mixes them; expected cache='off'"):
        mm.fit(new_model("momentum"), data, method=cached, recipe=mm.Recipe(1, 32, mixup=0.2))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*digits(64)), 32)
    with pytest.raises(ValueError, match="activations of a loader"):
        mm.fit(new_model("momentum"), (loader, loader), method=cached)
    with pytest.raises(ValueError, match="views is 2, but nothing is kept"):
        mm.Layerwise(views=2)
    with pytest.raises(ValueError, match="Did you mean 'memory'"):
        mm.Layerwise(cache=cast(Any, "memry"))


@pytest.mark.soak
def test_the_default_brings_a_resnet_above_95_percent() -> None:
    torch.manual_seed(0)
    model = mm.create_model("resnet20", in_channels=1, num_classes=10)
    result = mm.fit(model, "digits", method=mm.Layerwise(epochs_per_layer=6))
    assert cast(float, result.test_accuracy) > 0.95
    assert cast(float, mm.evaluate(model, "digits").accuracy) > 0.95
    assert [h["problem"] for h in result.history] == [j + 1 for j in range(9) for _ in range(6)]


@given(
    kind=st.sampled_from(AUXILIARIES),
    shape=st.sampled_from([(7,), (5, 6), (4, 8, 8), (3, 5, 9), (4, 12, 12)]),
    hidden=st.integers(0, 2),
    norm=st.booleans(),
)
def test_auxiliaries_take_every_shape(kind: Any, shape: tuple[int, ...], hidden: int, norm: bool) -> None:
    if kind == "vgg" and min(shape[1:], default=99) < 12 and len(shape) == 3:
        hidden = min(hidden, 1)
    assert auxiliary(kind, shape, 3, hidden, norm=norm)(torch.randn(4, *shape)).shape == (4, 3)


@pytest.mark.parametrize(
    ("width", "hidden", "kind", "norm", "count"),
    [
        (256, 0, "cnn", False, 10_250),
        (1024, 0, "cnn", False, 40_970),
        (128, 1, "cnn", True, 153_098),
        (256, 1, "cnn", True, 601_098),
        (128, 2, "cnn", True, 300_810),
        (256, 2, "cnn", True, 1_191_434),
    ],
)
def test_auxiliaries_have_the_published_size(width: int, hidden: int, kind: Any, norm: bool, count: int) -> None:
    head = auxiliary(kind, (width, 8, 8), 10, hidden, norm=norm)
    assert sum(p.numel() for p in head.parameters()) == count


def test_the_chain_of_a_sequential() -> None:
    chain = nn.Sequential(
        nn.Flatten(),
        nn.Linear(4, 5),
        nn.ReLU(),
        nn.Linear(5, 6),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(6, 2),
        nn.Softmax(1),
    ).eval()
    network = as_network(chain)
    assert [len(cast(nn.Sequential, layer)) for layer in network.layers] == [3, 2]
    assert len(cast(nn.Sequential, network.head)) == 3
    x = torch.randn(3, 2, 2)
    state = network.stem(x)
    for layer in network.layers:
        state = layer(state)
    assert torch.equal(network.head(state), chain(x))
    assert set(cast(nn.Module, network).state_dict()) == {f"module.{key}" for key in chain.state_dict()}
    assert as_network(model := cast(Any, new_model("momentum"))) is model


def test_bad_input_is_named() -> None:
    class Unreadable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.layers, self.head = (
                nn.Flatten(),
                nn.ModuleList([nn.Linear(64, 8), nn.Linear(8, 8)]),
                nn.Linear(8, 10),
            )

        def read(self, j: int, state: Any) -> Any:
            return [state]

        def forward(self, x: Tensor) -> Tensor:
            return x

    data = (digits(64), digits(32))
    cases: list[tuple[nn.Module, str]] = [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "1 children with parameters"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Linear(9, 10)), "1 layers, which is 1 block of 1"),
        (nn.Linear(64, 10), "Linear has no repeated blocks"),
        (Unreadable(), r"read\(0, state\) of Unreadable gives list"),
    ]
    for model, message in cases:
        before = copy.deepcopy(model.state_dict())
        with pytest.raises((TypeError, ValueError), match=message):
            mm.fit(model, data, method=mm.Layerwise())
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for options, message in (
        ({"hidden_layers": 0}, "Layerwise.hidden_layers is 0"),
        ({"auxiliary": "cn"}, "Did you mean 'cnn'"),
        ({"auxiliary_width": 0}, "Layerwise.auxiliary_width is 0"),
        ({"block_size": 1.5}, "Layerwise.block_size is 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            mm.Layerwise(**cast(Any, options))
    with pytest.raises(ValueError, match="4 layers, which is 1 block of 9|is 1 block of 9"):
        mm.fit(new_model("momentum"), data, method=mm.Layerwise(block_size=9))

"""Auxiliary heads of copied layers: which layers they copy, what they share, what learns and what follows."""

import copy
from typing import Any, cast

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn

import minimand as mm
from layerwise_models import MODELS, digits, new_model, recipe
from minimand.experiments.reopen import used_by
from minimand.networks.as_network import as_network
from minimand.report.size import saved_bytes
from minimand.training.loop.events import Event, StepDone
from minimand.training.loop.problems import Plan
from minimand.training.methods.local.copies import Later, LaterLayers, MomentumNeighbour, copied, pyramid
from minimand.training.methods.local.decoupled import Group
from sweeps import thin


def planned(name: str, method: mm.Method) -> tuple[nn.Module, Plan, list[Any]]:
    model = new_model(name)
    plan = method.plan(model, lambda: digits(8)[0], 10, 1)
    parts = [m for m in plan.saved.modules() if isinstance(m, LaterLayers | MomentumNeighbour)]
    return model, plan, parts


@pytest.mark.parametrize("name", MODELS)
def test_copies_have_the_shapes_of_later_layers_and_share_nothing(name: str) -> None:
    """Every weight of a head is that of a later layer or the network's head at first, in memory of its own."""
    model, _, heads = planned(name, mm.Decoupled(9, "auglocal"))
    assert heads
    network = as_network(model)
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    for j, head in enumerate(heads):
        depth = pyramid(9, j, len(heads) + 1)
        assert len(head.layers) >= min(depth, len(network.layers) - 1 - j)
        originals = [*network.layers[j + 1 :], network.head]
        shapes = {p.shape for layer in originals for p in layer.parameters()}
        assert {p.shape for part in (head.layers, head.head) for p in part.parameters()} <= shapes
        assert own.isdisjoint(t.untyped_storage().data_ptr() for t in (*head.parameters(), *head.buffers()))
        last: Any = list(head.layers)[-1]
        for p, q in zip(last.parameters(), network.layers[-1].parameters(), strict=True):
            assert torch.equal(p, q)


@pytest.mark.parametrize("name", MODELS)
def test_a_head_that_copies_all_later_layers_computes_what_they_do(name: str) -> None:
    model, plan, _ = planned(name, mm.Decoupled(99, "auglocal"))
    x = digits(8)[0]
    (problem,) = plan.problems
    first = cast(Group, problem.module.eval()).each[0]
    torch.testing.assert_close(first(x)[1], model.eval()(x), rtol=1e-4, atol=1e-5)


@given(count=st.integers(3, 60), end=st.integers(0, 58), depth=st.integers(1, 12))
def test_the_layers_are_those_of_the_published_code(count: int, end: int, depth: int) -> None:
    """Of layers of one shape: `round(l + (L - l - 1) / d * i)`, or all of them where there are no more than d."""
    end = min(end, count - 2)
    later = Later.__new__(Later)
    later.network = cast(Any, type("Chain", (), {"layers": [nn.Linear(2, 2) for _ in range(count)]}))
    later.kinds, later.passed = [(2,)] * (count + 1), [True] * count
    expected = [round(end + (count - end - 1) / depth * i) for i in range(1, depth + 1)]
    if depth >= count - 1 - end:
        expected = list(range(end + 1, count))
    assert later.chosen(end, depth) == expected
    assert later.chosen(end, depth)[-1] == count - 1


@given(depth=st.integers(1, 12), blocks=st.integers(2, 60))
def test_depth_falls_linearly_to_half(depth: int, blocks: int) -> None:
    """With --pyramid_coeff 0.5, as in the published commands."""
    depths = [pyramid(depth, j, blocks) for j in range(blocks - 1)]
    assert depths[0] == depth
    assert depths == sorted(depths, reverse=True)
    if blocks > 2:
        assert depths[-1] == max(1, round(0.5 * depth + 0.5))


@pytest.mark.parametrize("auxiliary", ["auglocal", "momentum"])
@pytest.mark.parametrize("name", MODELS)
def test_no_gradient_reaches_the_layers_that_are_copied(name: str, auxiliary: Any) -> None:
    model, plan, _ = planned(name, mm.Decoupled(2, auxiliary))
    (problem,) = plan.problems
    network = as_network(model)
    x, y = digits(8)
    part = cast(Group, problem.module).each[0]
    nn.functional.cross_entropy(part(x)[1], y).backward()
    later = [p for layer in network.layers[part.block.stop :] for p in layer.parameters()]
    assert all(p.grad is None for p in [*later, *network.head.parameters()])
    assert any(p.grad is not None and p.grad.any() for p in network.layers[0].parameters())
    assert all(p.grad is not None for p in part.head.parameters() if p.requires_grad)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_average_follows_the_next_layer(accumulate: int) -> None:
    """a <- 0.999 a + 0.001 w after each update, whatever the number of parts, from the layer's first weights."""
    model = new_model("momentum")
    network = as_network(model)
    heads: list[MomentumNeighbour] = []
    expected: list[list[Tensor]] = []

    class Watched(mm.Decoupled):
        def plan(self, *args: Any, **options: Any) -> Plan:
            plan = super().plan(*args, **options)
            heads.extend(m for m in plan.saved.modules() if isinstance(m, MomentumNeighbour))
            expected.extend([p.detach().clone() for p in network.layers[j + 1].parameters()] for j in range(len(heads)))
            return plan

    def look(event: Event) -> None:
        if isinstance(event, StepDone):
            for j, averages in enumerate(expected):
                for a, w in zip(averages, network.layers[j + 1].parameters(), strict=True):
                    a.copy_(0.999 * a + 0.001 * w.detach())

    how = mm.Recipe(2, 32, mm.SGD(0.5), accumulate=accumulate)
    mm.fit(model, (digits(), digits(64)), method=Watched(auxiliary="momentum"), recipe=how, callbacks=[look])
    assert heads
    for head, averages in zip(heads, expected, strict=True):
        for p, a in zip(head.averaged.parameters(), averages, strict=True):
            torch.testing.assert_close(p, a)
        assert not any(p.requires_grad for p in head.averaged.parameters())
    learned = [*heads[0].learned.parameters()]
    assert not any(torch.equal(p, q) for p, q in zip(learned, heads[0].averaged.parameters(), strict=True))


RESUMED: list[Any] = [
    mm.Decoupled(2, "auglocal"),
    mm.Decoupled(2, "momentum"),
    mm.DeepSupervision(auxiliary="predsim"),
    mm.Layerwise(2, "auglocal"),
    mm.DeepSupervision(2, "auglocal"),
    mm.DeepSupervision(auxiliary="momentum"),
]


@pytest.mark.parametrize(
    "method", thin(RESUMED, RESUMED[:3]), ids=lambda method: f"{type(method).__name__}-{method.auxiliary}"
)
def test_a_run_goes_on_to_the_same_bits_and_says_its_sources(method: Any, tmp_path: Any) -> None:
    """With learnable coefficients too, of which copies have their own."""
    name = "learnable" if method == RESUMED[0] else "vectors"
    options: dict[str, Any] = {"method": method, "recipe": recipe(2), "checkpoint_every": 0}
    whole, again = new_model(name), new_model(name)
    mm.fit(whole, (digits(192), digits(64)), **options)

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mm.fit(new_model(name), (digits(192), digits(64)), run=tmp_path / "run", callbacks=[stop], **options)
    mm.fit(again, (digits(192), digits(64)), run=tmp_path / "run", **options)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    cited = mm.bibliography(*used_by(tmp_path / "run"))
    for kind, source in (("auglocal", "ma2024auglocal"), ("momentum", "su2024man"), ("predsim", "nokland2019")):
        assert (source in cited) == (method.auxiliary == kind)


def test_copies_keep_what_they_compute_and_no_more() -> None:
    """A block below copies keeps less than the network end to end, and its head's weights are those of the copies."""
    model = mm.create_model("resnet20(width=4)", in_channels=1)
    x, y = digits(32)
    plan = mm.Layerwise(1, "auglocal").plan(model, lambda: x, 10, 1)
    own = nn.ModuleList([model, plan.saved])
    sizes = [saved_bytes(lambda p=p: nn.functional.cross_entropy(p.module.train()(x), y), own) for p in plan.problems]
    assert max(sizes) < 0.6 * saved_bytes(lambda: nn.functional.cross_entropy(model.train()(x), y), own)
    with pytest.raises(ValueError, match="Layerwise.auxiliary 'auglocal' of block 0, on 4 x 8 x 8, has"):
        mm.Layerwise(1, "auglocal", memory=1e-6).plan(model, lambda: x, 10, 1)


def test_a_copy_that_writes_into_its_input_is_given_another() -> None:
    def layer() -> nn.Module:
        return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(12, 12))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Flatten(), nn.Linear(64, 12))
            self.layers = nn.ModuleList(layer() for _ in range(3))
            self.head = nn.Linear(12, 10)

        def read(self, j: int, state: Tensor) -> Tensor:
            return state

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for layer in self.layers:
                x = layer(x)
            return self.head(x)

    for auxiliary in ("auglocal", "momentum"):
        model = Network()
        plan = mm.Decoupled(2, cast(Any, auxiliary)).plan(model, lambda: digits(8)[0], 10, 1)
        group = cast(Group, plan.problems[0].module)
        state, _, _ = group.each[0](digits(8)[0])
        torch.testing.assert_close(state, model.layers[0](model.stem(digits(8)[0])))
        mm.fit(model, (digits(64), digits(64)), method=mm.Decoupled(2, cast(Any, auxiliary)), recipe=recipe())


def test_a_layer_without_a_derivative_is_not_copied() -> None:
    class Rules(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.detach() > 0).float()

    def chain() -> nn.Module:
        layers = [nn.Sequential(nn.Linear(16, 16), nn.Tanh()) for _ in range(3)]
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), *layers[:2], Rules(), layers[2], nn.Linear(16, 10))

    for method in (mm.Layerwise(2, "auglocal"), mm.Decoupled(2, "auglocal"), mm.Decoupled(2, "momentum")):
        with pytest.raises(ValueError, match=r"no gradient goes through layer \d, so the block .* such as 'cnn'"):
            mm.fit(chain(), (digits(64), digits(64)), method=method, recipe=recipe())


def test_steps_of_a_stage_are_copied_with_their_coefficients() -> None:
    stage = mm.unroll("heavy_ball(momentum=Learnable(0.5, 0, 1))", [nn.Linear(4, 4) for _ in range(3)])
    twins = copied(list(stage.layers))
    state = stage.start(torch.randn(2, 4))
    before = copy.deepcopy(stage.coefficients)
    for layer, twin in zip(stage.layers, twins, strict=True):
        assert torch.equal(cast(Any, layer(state))[0], cast(Any, twin(state))[0])
    with torch.no_grad():
        cast(Any, twins[0]).stage.coefficients["momentum"].fill_(0.1)
    assert torch.equal(before["momentum"], stage.coefficients["momentum"])
    assert cast(Any, twins[0]).stage is cast(Any, twins[2]).stage


def test_what_cannot_be_is_said() -> None:
    for method, message in (
        (lambda: mm.Layerwise(auxiliary="momentum"), "layer by layer that one rests; expected 'auglocal'"),
        (lambda: mm.Decoupled(auxiliary=cast(Any, "auglocl")), "auxiliary of Decoupled.*mean 'auglocal'"),
        (lambda: mm.Decoupled(auxiliary="momentum").check(2), "Decoupled.auxiliary is 'momentum'.*there are 2 proc"),
        (lambda: mm.DeepSupervision(weight=-1), "DeepSupervision.weight is -1"),
        (lambda: mm.DeepSupervision(modules=2, block_size=3), "modules is 2 and block_size 3; expected one of them"),
        (lambda: mm.DeepSupervision(auxiliary=cast(Any, "cn")), "auxiliary of DeepSupervision"),
    ):
        with pytest.raises(ValueError, match=message):
            method()

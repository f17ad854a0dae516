"""Scaling rules: gains against closed forms, base networks, ties, and the coordinate check with and without them."""

import copy
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import minimand as mm
from minimand._support.errors import MinimandError
from minimand.algorithms import ALGORITHMS, as_algorithm, is_proximal
from minimand.blocks import Skip
from minimand.networks.kinds import layers
from minimand.recipes.parameter_groups import ScalingFactors, UpdateRule, parameter_groups, trainable_parameters
from minimand.theory.dynamics.response import block_gains, gains
from minimand.trainability import coordinate_check
from minimand.trainability.measure.tracing import branches, trace
from minimand.trainability.scaling.counterparts import Counterparts
from minimand.trainability.scaling.rules import DepthScale, GainSums
from minimand.training import EpochDone
from sweeps import thin

BATCH = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(128, 16, generator=torch.Generator().manual_seed(1))
OPTIMIZERS = {
    "adam": mm.AdamW(lr=5e-4, betas=(0.9, 0.95), weight_decay=0.0),
    "sgd": mm.SGD(lr=0.03, momentum=0.0, weight_decay=0.0),
    "muon": mm.Muon(lr=5e-3),
}


def network(depth: int = 8, width: int = 64, algorithm: str = "gradient_descent", rule: str = "complete_p") -> Any:
    return mm.create_model(
        "mlp", algorithm, in_channels=16, depth=depth, width=width, hidden=width, parametrization=rule
    )


class Normalized(nn.Module):
    """A branch of order 1 by its own normalization, over a fixed number."""

    def __init__(self, width: int, by: float) -> None:
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        self.by = by

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(self.inner(self.norm(x)).relu()) / self.by


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_sums_of_heavy_balls_gains_are_their_closed_forms(momentum: float) -> None:
    depth, m = 16, momentum
    here = block_gains(as_algorithm(f"heavy_ball(momentum={m})"), depth)
    assert here.shape == (depth, 1)
    assert here.sum() == pytest.approx(depth / (1 - m) - m * (1 - m**depth) / (1 - m) ** 2)


@pytest.mark.parametrize("name", [n for n in ALGORITHMS if not any(map(is_proximal, ALGORITHMS[n].oracles))])
def test_what_a_block_answers_in_one_step_adds_up(name: str) -> None:
    algorithm = as_algorithm(name)
    signed = block_gains(algorithm, 6)
    by_call = gains(algorithm, 6)
    if signed.size == by_call.size:  # each block is asked once
        assert np.sort(signed.ravel()) == pytest.approx(np.sort(by_call))
    else:
        assert signed.sum() <= by_call.sum() + 1e-9
        assert signed.sum() > 0


def test_answers_of_a_runge_kutta_step_add_up_to_the_whole_step() -> None:
    # Explicit methods of order 2 move by the step size whatever is asked where.
    assert block_gains(as_algorithm("runge_kutta"), 5) == pytest.approx(np.ones((5, 1)))


def test_a_rule_at_the_base_changes_nothing() -> None:
    base = network(4, 32, rule="mup")
    model = network(4, 32, rule="mup")
    prepared = mm.prepare(model, "complete_p", BATCH, base=base)
    rules: tuple[UpdateRule, ...] = ("adam", "sgd", "muon")
    for rule in rules:
        assert {group["lr"] for group in prepared.parameter_groups(0.3, rule)} == {0.3}


def test_the_table_of_completep_relative_to_a_base() -> None:
    # Dey et al. 2025, table 1: twice as wide and four times as deep, multiplier absorbed into the end of a branch.
    model = mm.create_model("mlp", in_channels=16, depth=16, width=128, hidden=128)
    base = mm.create_model("mlp", in_channels=16, depth=4, width=64)
    mm.prepare(model, "complete_p", BATCH, base=base)
    factors = {entry.name: entry.factors for entry in trainable_parameters(model)}
    inner, end = factors["body.0.layers.3.block.0.weight"], factors["body.0.layers.3.block.2.weight"]
    stem, bias, head = (factors[n] for n in ("stem.module.1.weight", "stem.module.1.bias", "head.module.0.weight"))
    assert (inner.adam, end.adam, stem.adam, bias.adam, head.adam) == pytest.approx((1 / 2, 1 / 8, 1, 1, 1 / 2))
    assert (inner.sgd, end.sgd) == pytest.approx((4, 4 / 16))
    assert (stem.sgd, bias.sgd, head.sgd) == pytest.approx((2, 2, 1 / 2))
    assert (inner.muon, end.muon) == pytest.approx((1, 1 / 4))
    assert (inner.epsilon, end.epsilon) == pytest.approx((1 / 8, 1 / 2))


def test_an_absorbed_multiplier_is_a_multiplier_in_front() -> None:
    """One step of Adam on a W x with W of order 1 moves the answer as one of the rule on its smaller weights does."""
    torch.manual_seed(0)
    a, lr = 0.05, 0.01
    weight, x = torch.randn(6, 5), torch.randn(5)
    in_front, absorbed = nn.Parameter(weight.clone()), nn.Parameter(a * weight)
    torch.optim.AdamW([in_front], lr=lr, eps=1e-4, weight_decay=0.1).zero_grad()
    first = torch.optim.AdamW([in_front], lr=lr, eps=1e-4, weight_decay=0.1)
    second = torch.optim.AdamW([absorbed], lr=lr * a, eps=1e-4 / a, weight_decay=0.1 / a)
    for _ in range(3):
        for optimizer, answer in ((first, lambda: a * (in_front @ x)), (second, lambda: absorbed @ x)):
            optimizer.zero_grad()
            answer().square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(a * in_front, absorbed)


def test_copies_and_parts_keep_the_factors() -> None:
    model = network(4, 128)
    want = [(entry.name, entry.factors) for entry in trainable_parameters(model)]
    assert [(entry.name, entry.factors) for entry in trainable_parameters(copy.deepcopy(model))] == want
    part = model.get_submodule("body.0")
    inside = {f"body.0.{entry.name}": entry.factors for entry in trainable_parameters(part)}
    assert inside.items() <= dict(want).items()


def test_the_product_of_rate_and_weight_decay_stays() -> None:
    prepared = mm.prepare(network(4, 256, rule="mup"), "complete_p", BATCH)
    rules: tuple[UpdateRule, ...] = ("adam", "sgd")
    for rule in rules:
        decays = {g["lr"] * g["weight_decay"] for g in prepared.parameter_groups(0.1, rule, 0.02)} - {0.0}
        assert max(decays) == pytest.approx(min(decays)) == pytest.approx(0.002)


def test_weight_decay_that_is_added_to_gradients_is_sized_as_they_are() -> None:
    """Adam's rates fall with width as gradients do: divided by the rate, as for AdamW, decay would outgrow them."""
    options = {"adam(weight_decay=0.1)": 1, "rmsprop(weight_decay=0.1)": 1, "adamw(weight_decay=0.1)": 4}
    options |= {"nadam(weight_decay=0.1)": 1, "nadam(weight_decay=0.1, decoupled_weight_decay=True)": 4}
    model = network(4, 256, rule="mup")
    hidden = next(p for name, p in model.named_parameters() if name.endswith("block.0.weight"))
    assert hidden.shape == (256, 256)
    for optimizer, factor in options.items():
        groups = mm.Recipe(optimizer=optimizer).optimizer.build(model).param_groups
        (group,) = [group for group in groups if any(p is hidden for p in group["params"])]
        assert (group["share"], group["weight_decay"]) == pytest.approx((1 / 4, 0.1 * factor))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "nadam"])
def test_a_role_may_have_no_rate_at_all(optimizer: str) -> None:
    model = mm.create_model("resnet20(width=8)", in_channels=1)
    groups = mm.Recipe(optimizer=optimizer).optimizer.build(model, scalars=0.0, biases=0.0).param_groups
    assert {group["weight_decay"] for group in groups if group["share"] == 0} == {0.0}


def test_a_parametrization_keeps_the_rate_of_its_weight_or_is_refused() -> None:
    model, weight = network(4, 256, rule="mup"), "body.0.layers.1.block.0.weight"
    layer = model.get_submodule(weight.removesuffix(".weight"))
    factors = {entry.name: entry.factors for entry in trainable_parameters(model)}[weight]
    parametrizations.spectral_norm(layer)
    after = {entry.name: entry.factors for entry in trainable_parameters(model)}
    assert after[weight.replace("weight", "parametrizations.weight.original")] == factors != ScalingFactors()
    with pytest.raises(MinimandError, match=f"{weight} is parametrized"):
        mm.prepare(model, "mup", BATCH)
    parametrize.remove_parametrizations(layer, "weight")
    parametrizations.weight_norm(layer)
    with pytest.raises(MinimandError, match=f"{weight} was parametrized after"):
        mm.AdamW().build(model)
    layer.requires_grad_(False)
    mm.AdamW().build(model)


class Raw(nn.Module):
    """A matrix between features, and a table of two rows, that are no layer's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(16, width), nn.Linear(width, 3)
        self.matrix, self.table = nn.Parameter(torch.randn(width, width)), nn.Parameter(torch.randn(2, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(((self.stem(x).relu() + self.table[0]) @ self.matrix).relu())


def test_a_matrix_that_is_no_layers_is_told_by_a_base_and_else_named() -> None:
    model = Raw(256)
    prepared = mm.prepare(model, "mup", BATCH, base=Raw(64))
    factors = {entry.name: entry.factors for entry in trainable_parameters(model)}
    assert (factors["matrix"].adam, factors["table"].adam) == (1 / 4, 1)
    assert "base=" not in str(prepared)
    report = str(mm.prepare(model, "mup", BATCH))
    assert "matrix, 256 x 256, is no layer's weight" in " ".join(report.split())
    assert "base=" not in str(mm.prepare(mm.create_model("gpt_nano(depth=1)", num_tokens=5, context=4), "mup", None))


@pytest.mark.parametrize("where", ["stage", "rewired"])
def test_learnable_coefficients_have_no_part_in_a_rule(where: str) -> None:
    algorithm = "heavy_ball(momentum=Learnable(0.5, 0, 1))"
    model = network(3, 256, algorithm, rule="complete_p")
    if where == "rewired":
        model = mm.rewire(
            nn.Sequential(*[with_skip(Normalized(16, 1.0)) for _ in range(3)], nn.Linear(16, 3)), algorithm
        )
        mm.prepare(model, "mup", BATCH)
    (coefficient,) = (entry for entry in trainable_parameters(model) if entry.is_coefficient)
    assert coefficient.factors == ScalingFactors()


def test_what_reads_an_embedding_is_a_hidden_layer_of_a_coordinate_check() -> None:
    def make(depth: int, width: int) -> nn.Module:
        model = nn.Sequential(nn.Embedding(9, width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 9))
        mm.prepare(model, "mup", tokens)
        return model

    tokens = torch.arange(9)[None].repeat(4, 1)
    (sweep,) = coordinate_check(make, widths=(64, 128), batch=tokens, seeds=1).sweeps
    assert sweep.hidden_share > 0.2


class Looped(nn.Module):
    """One block that runs again and again."""

    def __init__(self, depth: int, width: int = 16) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.head, self.depth = nn.Linear(width, 10), depth

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.depth):
            x = x + self.outer(self.inner(x).relu())
        return self.head(x)


def test_a_block_that_runs_several_times_is_one_branch_whose_answers_add_up() -> None:
    depth = 4
    model = Looped(depth)
    (branch,) = branches(model, trace(model, BATCH))
    assert (branch.gain, branch.reach, branch.calls) == (depth, depth, depth)
    for scheme, factor in (("complete_p", 1 / depth), ("depth", 1 / depth), ("fixup", 0)):
        sizes = []
        for one in (Looped(1), Looped(depth)):
            mm.initialize(one, scheme, batch=BATCH, generator=torch.Generator().manual_seed(0))
            sizes.append([float(layer.weight.detach().norm()) for layer in (one.inner, one.outer)])
        assert sizes[1][1] == pytest.approx(factor * sizes[0][1])
        assert sizes[1][0] == pytest.approx(sizes[0][0] * (depth**-0.5 if scheme == "fixup" else 1))
    rates = []
    for one in (Looped(1), Looped(depth)):
        mm.prepare(one, "complete_p", BATCH)
        rates.append({entry.name: entry.factors.sgd for entry in trainable_parameters(one)})
    assert rates[0]["inner.weight"] == rates[1]["inner.weight"]  # gradients add up as answers do


def test_a_stage_of_one_block_has_one_branch() -> None:
    block = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    model = nn.Sequential(nn.Linear(16, 16), mm.unroll("heavy_ball(momentum=0.5)", [block] * 4), nn.Linear(16, 4))
    (branch,) = branches(model)
    assert branch.calls == 4
    assert branch.reach == pytest.approx(branch.gain) == pytest.approx(sum(block_gains(as_algorithm("heavy_ball"), 4)))
    assert "1 branch, times" in str(report := mm.initialize(model, "depth", batch=BATCH))
    assert "left alone" not in str(report)


def test_a_rule_for_depth_refuses_branches_that_it_cannot_size() -> None:
    for_width, sequence = nn.Linear(16, 10), torch.randn(2, 3, 16)
    after = [nn.TransformerEncoderLayer(16, 2, 16, batch_first=True) for _ in range(3)]
    with pytest.raises(MinimandError, match=r"0.norm\d normalizes what branches add up to.*norm_first=True"):
        mm.prepare(nn.Sequential(*after, for_width), "complete_p", sequence)
    before = [nn.TransformerEncoderLayer(16, 2, 16, batch_first=True, norm_first=True) for _ in range(3)]
    model = nn.Sequential(*before, nn.LayerNorm(16), for_width)
    mm.prepare(model, "complete_p", sequence)
    before[1].linear2.weight.requires_grad_(False)
    with pytest.raises(MinimandError, match="1.linear2.weight ends a branch that trains and is left alone, frozen"):
        mm.prepare(model, "complete_p", sequence)
    assert "1 of them end in what was left alone" in str(mm.initialize(model, "depth", batch=sequence))
    before[1].requires_grad_(False)
    assert "2 of them end in what was left alone" in str(mm.prepare(model, "complete_p", sequence))


def test_a_base_of_another_depth_has_its_layers_by_their_part() -> None:
    """In a chain the name of a hidden layer may be that of the base's last one, or of a normalization."""

    def chain(depth: int, width: int) -> nn.Sequential:
        inner = [part for _ in range(depth) for part in (nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU())]
        return nn.Sequential(nn.Linear(16, width), nn.ReLU(), *inner, nn.LayerNorm(width), nn.Linear(width, 10))

    for depth in (1, 2, 5):
        model, same = chain(depth, 256), chain(2, 256)
        mm.prepare(model, "mup", BATCH, base=chain(2, 64))
        mm.prepare(same, "mup", BATCH, base=chain(2, 64))
        by_part = {(type(entry.owner), entry.parameter.shape): entry.factors for entry in trainable_parameters(same)}
        for entry in trainable_parameters(model):
            assert entry.factors == by_part[type(entry.owner), entry.parameter.shape], entry.name
    with pytest.raises(MinimandError, match="base has nothing like 2; expected"):
        mm.prepare(chain(2, 256), "mup", BATCH, base=chain(0, 64))
    with pytest.raises(TypeError, match="base is int; expected a module"):
        mm.prepare(chain(2, 256), "mup", BATCH, base=3)  # pyright: ignore[reportArgumentType]


def test_a_base_of_other_stages_has_its_layers_in_the_same_stage() -> None:
    """Stages grow in width, so that a layer of another stage is of another size."""
    sizes: Any = {"in_channels": 1, "num_classes": 10}
    model, base = (mm.create_model(name, **sizes) for name in ("resnet32(width=8)", "resnet20(width=4)"))
    pairs = Counterparts(model, base, list(layers(model))[-1])
    for name, layer in pairs.layers.items():
        there, like = pairs.layer(name)
        assert there.split(".")[:2] == name.split(".")[:2]
        if isinstance(layer, nn.Conv2d) and isinstance(like, nn.Conv2d):
            assert (layer.out_channels, layer.kernel_size) == (2 * like.out_channels, like.kernel_size), name


def test_a_base_of_one_block_a_stage_has_nothing_like_the_blocks_behind_it() -> None:
    """The first block of a stage reads from the one before, which is narrower: its sizes are not those of the rest."""

    def stages(blocks: int, width: int) -> nn.Module:
        def stage(inputs: int) -> nn.Sequential:
            reads = [inputs] + [2 * inputs] * (blocks - 1)
            parts = [(nn.Conv2d(c, 2 * inputs, 3, padding=1), nn.BatchNorm2d(2 * inputs), nn.ReLU()) for c in reads]
            return nn.Sequential(*(nn.Sequential(*part) for part in parts))

        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 3))
        return nn.Sequential(nn.Conv2d(2, width, 3, padding=1), stage(width), stage(2 * width), head)

    images = torch.randn(4, 2, 8, 8)
    with pytest.raises(MinimandError, match="nothing like 1.1.0: 1.0.0 is the nearest, and it has another shape in"):
        mm.prepare(stages(3, 16), "mup", images, base=stages(1, 4))
    model, base = stages(3, 16), stages(2, 4)
    mm.prepare(model, "mup", images, base=base)
    assert Counterparts(model, base, "3.2").layer("2.2.0") == ("2.1.0", base.get_submodule("2.1.0"))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (nn.ReLU(), "base ReLU has no layers"),
        (nn.Sequential(nn.Linear(16, 8, bias=False), nn.Linear(8, 3)), "base has nothing like 0.bias; expected"),
        (nn.Sequential(nn.LSTM(16, 8), nn.Linear(8, 3)), "base has nothing like 0; expected"),
    ],
)
def test_a_base_of_another_family_is_named(base: nn.Module, message: str) -> None:
    with pytest.raises(MinimandError, match=message):
        mm.prepare(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3)), "mup", BATCH, base=base)


def test_rates_of_a_rule_go_with_another_preparation_and_are_named_by_a_scheme() -> None:
    model = network(3, 256, rule="complete_p")
    assert "Learning rates stay" in str(mm.initialize(model, "kaiming"))
    assert "Learning rates stay" not in str(mm.prepare(model, "mup", BATCH))
    mm.prepare(model, "rescue", BATCH)
    assert {entry.factors for entry in trainable_parameters(model)} == {ScalingFactors()}
    with pytest.raises(MinimandError, match="weight_decay is -1"):
        mm.prepare(model, "mup", BATCH).parameter_groups(1.0, weight_decay=-1)


def test_groups_hold_every_parameter_once_and_go_into_optimizers_of_torch() -> None:
    model = network(4)
    prepared = mm.prepare(model, "complete_p", BATCH)
    cases: list[tuple[UpdateRule, Any]] = [
        ("adam", torch.optim.Adam),
        ("adam", torch.optim.NAdam),
        ("sgd", torch.optim.SGD),
    ]
    for rule, make in cases:
        optimizer = make(prepared.parameter_groups(0.01, rule))
        listed = [p for group in optimizer.param_groups for p in group["params"]]
        assert len(listed) == len(set(listed)) == len(list(model.parameters()))


def test_a_model_without_a_rule_has_the_groups_it_had() -> None:
    groups = parameter_groups(trainable_parameters(mm.create_model("mlp", in_channels=4)), 0.1)
    assert [(group["weight_decay"], group["share"]) for group in groups] == [(0.1, 1.0), (0.0, 1.0)]


@pytest.mark.parametrize(
    ("algorithm", "optimizer"),
    thin(
        product(["gradient_descent", "heavy_ball(momentum=0.9)"], OPTIMIZERS),
        keep=[("gradient_descent", "adam"), ("heavy_ball(momentum=0.9)", "sgd"), ("heavy_ball(momentum=0.9)", "muon")],
    ),
)
def test_features_change_alike_at_every_depth(algorithm: str, optimizer: str) -> None:
    def make(depth: int, width: int) -> nn.Module:
        model = without_rule(algorithm, False)(depth, width)
        mm.initialize(model, "complete_p", batch=BATCH)
        return model

    check = coordinate_check(make, depths=(4, 16, 64), optimizer=OPTIMIZERS[optimizer], batch=NOISE, seeds=2)
    assert check.ok, str(check)


@pytest.mark.soak
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", [n for n in ALGORITHMS if not any(map(is_proximal, ALGORITHMS[n].oracles))])
def test_features_change_alike_under_every_skeleton(name: str, optimizer: str) -> None:
    check = coordinate_check(
        lambda depth, width: network(depth, width, name),
        depths=(8, 16, 32, 64),
        optimizer=OPTIMIZERS[optimizer],
        seeds=2,
    )
    assert abs(check.slope) < 0.2, str(check)


def with_skip(branch: nn.Module) -> nn.Module:
    return Skip(branch, nn.Identity(), nn.Identity())


def without_rule(algorithm: str, by_depth: bool):
    def make(depth: int, width: int) -> nn.Module:
        blocks = [Normalized(width, depth if by_depth else 1.0) for _ in range(depth)]
        return nn.Sequential(
            nn.Linear(16, width), mm.unroll(algorithm, blocks), nn.LayerNorm(width), nn.Linear(width, 10)
        )

    return make


def test_without_a_rule_features_change_more_the_deeper_the_network() -> None:
    for algorithm, least in (("gradient_descent", 0.7), ("heavy_ball(momentum=0.9)", 1.2)):
        check = coordinate_check(without_rule(algorithm, False), depths=(4, 16, 64), batch=NOISE, seeds=1)
        assert not check.ok
        assert check.slope > least


def test_one_over_depth_is_no_rule_for_heavy_ball() -> None:
    make = without_rule("heavy_ball(momentum=0.9)", True)
    check = coordinate_check(make, depths=(4, 16, 64), batch=NOISE, seeds=1)
    assert 0.3 < check.slope < 0.8  # facts of the gains: about the root
    assert "grows like depth^" in str(check)


def test_a_rule_that_freezes_the_hidden_layers_is_flat_and_not_ok() -> None:
    def make(depth: int, width: int) -> nn.Module:
        model = network(depth, width)
        for entry in trainable_parameters(model):
            if entry.name.startswith("body"):
                entry.owner.__dict__["_scaling"] = {}
                entry.parameter.requires_grad_(False)
        return model

    check = coordinate_check(make, depths=(16, 64), batch=NOISE, seeds=1)
    assert not check.ok
    assert "hardly move" in str(check)


def test_features_change_alike_at_every_width() -> None:
    check = coordinate_check(
        lambda depth, width: network(depth, width, "heavy_ball(momentum=0.9)"), widths=(128, 256, 512), seeds=2
    )
    assert abs(check.slope) < 0.2, str(check)
    plain = coordinate_check(
        lambda depth, width: mm.create_model("mlp", in_channels=16, depth=2, width=width, hidden=width),
        widths=(128, 512),
        seeds=1,
    )
    assert plain.slope > 0.3


def _sized(frozen: bool = False, classes: int = 3) -> Any:
    """A function that gives networks without a rule."""

    def make(depth: int, width: int) -> nn.Module:
        inner = [part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU())]
        model = nn.Sequential(nn.Linear(16, width), *inner, nn.Linear(width, classes))
        return model.requires_grad_(not frozen)

    return make


_ONE = _sized()(4, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds is 0; expected an integer, at least 1"),
        ({"steps": 0}, "steps is 0; expected an integer, at least 1"),
        ({"depths": (4, "a")}, r"depths\[1\] is 'a'; expected an integer, at least 1"),
        ({"widths": (0, 8)}, r"widths\[0\] is 0; expected an integer, at least 1"),
        ({"depths": (4, 4), "widths": None}, r"depths is \(4,\).*; expected two depths or two widths"),
        ({"depths": 4}, "depths is 4; expected a list of integers"),
        ({"optimizer": "adm"}, "unknown optimizer 'adm'. Did you mean 'adam'"),
        ({"optimizer": 1}, "optimizer is 1; expected one such as"),
        ({"make": "mlp"}, "make is 'mlp'; expected a function"),
        ({"make": _sized(frozen=True)}, "make gives a Sequential that is frozen"),
        ({"make": _sized(classes=1)}, r"outputs have the shape \(128, 1\); expected \(N, ..., classes\)"),
        ({"make": lambda depth, width: _ONE}, "a model that it gave before"),
        (
            {"make": lambda depth, width: _sized()(4, 4)},
            "the same network at width 4 and 8.*a function that uses its width",
        ),
    ],
)
def test_a_check_of_nothing_is_refused(options: Any, message: str) -> None:
    options = {"make": _sized(), "widths": (4, 8), "batch": NOISE, "seeds": 1} | options
    with pytest.raises((ValueError, TypeError), match=message):
        mm.trainability.coordinate_check(**options)


def test_the_optimizer_of_a_check_may_be_a_name_and_its_model_return_logits_by_name() -> None:
    class Named(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.inner = _sized()(8, width)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.inner(x)}

    options: Any = {"widths": (4, 8), "batch": NOISE, "seeds": 1}
    with torch.no_grad():
        check = coordinate_check(lambda depth, width: Named(width), optimizer="muon(lr=0.01)", **options)
    plain = coordinate_check(_sized(), optimizer=mm.Muon(lr=0.01), **options)
    assert check.slope == plain.slope


def test_the_diverse_rule_and_the_complete_one_at_their_definitions() -> None:
    sums = GainSums(linear=20.0, square=5.0, mean=2.0)
    complete, diverse = DepthScale.by("complete", sums), DepthScale.by("diverse", sums)
    assert (complete.multiplier, complete.set_size, complete.sgd) == pytest.approx((1 / 20, 1, 16))
    assert (diverse.multiplier, diverse.set_size, diverse.sgd) == pytest.approx((1 / 5, 1 / 4, 1))


def test_a_rule_refuses_ties_and_what_it_cannot_size() -> None:
    tied = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    tied[2].weight = tied[0].weight
    with pytest.raises(ValueError, match="0.weight and 2.weight|2.weight and 0.weight"):
        mm.prepare(tied, "mup", torch.randn(2, 8))
    with pytest.raises(ValueError, match="branches"):
        mm.prepare(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), "complete_p", torch.randn(2, 8))
    blocks = [with_skip(Normalized(16, 1.0)) for _ in range(3)]
    rewired = mm.rewire(nn.Sequential(*blocks, nn.Linear(16, 10)), "heavy_ball(momentum=0.5)")
    with pytest.raises(ValueError, match="was rewired by HeavyBall"):
        mm.initialize(rewired, "complete_p", batch=BATCH)
    former = mm.create_model("gpt_nano(depth=1, width=16)", "yurii_former", num_tokens=5, context=4)
    weights = copy.deepcopy(former.state_dict())
    with pytest.raises(ValueError, match="gains of all branches are 0.*Expected 'mup'"):
        mm.prepare(former, "complete_p", former.noise(2))
    assert all(torch.equal(weights[name], weight) for name, weight in former.state_dict().items())
    with pytest.raises(ValueError, match="base has nothing like"):
        mm.prepare(network(), "mup", BATCH, base=nn.Sequential(nn.Linear(16, 8)))
    with pytest.raises(ValueError, match="base goes with"):
        mm.prepare(network(), "residual_norm", BATCH, base=network())
    with pytest.raises(ValueError, match="parametrization"):
        mm.create_model("mlp", in_channels=4, parametrization="mu_p")
    with pytest.raises(ValueError, match="expected two depths"):
        coordinate_check(network, depths=(4,))
    with pytest.raises(ValueError, match="expected a batch"):
        coordinate_check(without_rule("gradient_descent", False), depths=(4, 8))


def test_adam_divides_by_no_zero_in_branches_that_reach_the_output_through_others() -> None:
    """Of leapfrog every other gain is 0; a neuron that is dead has no gradient, and Adam's epsilon has to be there."""
    model = mm.create_model("mlp(depth=4)", "leapfrog", in_channels=4, parametrization="complete_p")
    assert min(entry.factors.epsilon for entry in trainable_parameters(model)) > 0.01


def test_a_rule_is_kept_by_the_configuration_and_random_state_stays() -> None:
    before = torch.get_rng_state()
    coordinate_check(network, depths=(2, 4), seeds=1)
    assert torch.equal(before, torch.get_rng_state())
    model = network(4, 32)
    assert model.config["parametrization"] == "complete_p"
    again = type(model)(**model.config)
    assert [e.factors for e in trainable_parameters(again)] == [e.factors for e in trainable_parameters(model)]


def test_a_run_goes_on_only_with_the_factors_that_it_began_with(tmp_path: Path) -> None:
    data = (torch.randn(40, 16), torch.arange(40) % 2)
    recipe = mm.Recipe(3, 20, optimizer="adamw(lr=0.004)")

    def make(rule: str | None) -> nn.Module:
        torch.manual_seed(0)
        model = mm.create_model("mlp(depth=4)", in_channels=16, num_classes=2)
        if rule:
            mm.prepare(model, rule, BATCH)
        return model

    def stop(event: Any) -> None:
        if isinstance(event, EpochDone) and event.epoch == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mm.fit(make("complete_p"), data, recipe=recipe, run=tmp_path / "run", callbacks=[stop], progress=False)
    for rule in (None, "mup", "complete_p(rule='diverse')"):
        with pytest.raises(ValueError, match="the scaling of rates is not what it was"):
            mm.fit(make(rule), data, recipe=recipe, run=tmp_path / "run", progress=False)
    broken_off = mm.fit(make("complete_p"), data, recipe=recipe, run=tmp_path / "run", progress=False)
    at_once = mm.fit(make("complete_p"), data, recipe=recipe, progress=False)
    assert broken_off.history[-1]["train_loss"] == at_once.history[-1]["train_loss"]


def language(tied: bool, splitting: str | None = None, rule: str | None = "complete_p", heads: int = 2):
    def make(depth: int, width: int) -> Any:
        sizes: dict[str, Any] = {"num_tokens": 50, "context": 16, "depth": depth, "width": width, "heads": heads}
        return mm.create_model("gpt_nano", tied=tied, splitting=splitting, parametrization=rule, **sizes)

    return make


@pytest.mark.soak
@pytest.mark.parametrize(("tied", "splitting"), [(True, None), (False, None), (True, "strang")])
def test_features_of_a_language_model_change_alike_at_every_depth(tied: bool, splitting: str | None) -> None:
    check = coordinate_check(language(tied, splitting), depths=(4, 16), seeds=1, steps=2)
    assert abs(check.slope) < 0.15, str(check)
    without = coordinate_check(language(tied, splitting, None), depths=(4, 16), seeds=1, steps=2)
    assert without.slope > 0.35, str(without)


@pytest.mark.soak
@pytest.mark.parametrize("tied", [True, False])
def test_features_of_a_language_model_change_alike_at_every_width(tied: bool) -> None:
    widths = (64, 128, 256)
    assert abs(coordinate_check(language(tied), depths=(2,), widths=widths).slope) < 0.15
    wide = coordinate_check(language(tied), depths=(2,), widths=(128, 256, 512), seeds=1)
    assert abs(wide.slope) < 0.08, str(wide)  # what bends below is a width of few numbers, and no multiplier
    assert coordinate_check(language(tied, rule=None), depths=(2,), widths=widths).slope > 0.8


def test_a_tied_head_takes_its_multiplier_from_the_normalization_before() -> None:
    model, base = language(True, rule=None)(2, 128), language(True, rule=None)(2, 32)
    mm.prepare(model, "mup", model.noise(4), base=base)
    factors = {entry.name: entry.factors for entry in trainable_parameters(model)}
    norm, table = factors["head.module.0.weight"], factors["stem.module.table.tokens.weight"]
    assert (norm.adam, norm.sgd, norm.epsilon) == pytest.approx((1 / 4, 4 / 16, 1))
    assert (table.adam, table.sgd, table.epsilon) == pytest.approx((1, 4, 1 / 4))
    assert factors["body.0.layers.0.block.inner.qkv.weight"].adam == pytest.approx(1 / 4)  # it reads the width
    assert model.head.module[0].weight.tolist() == pytest.approx([1 / 4 * 32**-0.5] * 128)
    rules: tuple[UpdateRule, ...] = ("adam", "sgd", "muon")
    prepared = mm.prepare(language(True, rule=None)(2, 32), "mup", model.noise(4), base=base)
    assert {group["lr"] for rule in rules for group in prepared.parameter_groups(0.3, rule)} == {0.3}


def test_heads_that_grow_wider_have_logits_of_q_k_over_d(tmp_path: Path) -> None:
    """A buffer, which every store keeps: another model has other logits."""
    model = language(False, rule="mup")(2, 512)
    attention: Any = model.get_submodule("body.0.layers.0.block.inner")
    assert float(attention.scale) == pytest.approx((256 / 64) ** -0.5)
    tokens = torch.randint(50, (2, 16))
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(mm.UnrolledNetwork.from_pretrained(tmp_path)(tokens), model(tokens))
    with pytest.raises(RuntimeError, match="scale"):
        language(False, rule=None)(2, 512).load_state_dict(model.state_dict())
    assert language(False, rule="mup", heads=8)(2, 512).get_submodule("body.0.layers.0.block.inner").scale is None


def test_the_halves_of_strang_are_one_branch() -> None:
    for splitting in ("strang", "lie_trotter"):
        model = language(True, splitting, None)(3, 16)
        parts = branches(model)
        assert len(parts) == 6
        assert [part.reach for part in parts] == pytest.approx([1.0] * 6)

"""Blocks that one pass of an example shows to run one after another are rewired, in whatever containers they stand."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

import minimand as mm
from helpers import Residual
from minimand._support.torch.torchvision import require_torchvision
from minimand.networks.skeletons import skeletons


class Named(nn.ModuleDict):
    """Blocks in a dictionary that runs them in its order."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__({name: Residual() for name in names})

    def forward(self, x: Tensor) -> Tensor:
        for block in self.values():
            x = block(x)
        return x


class Other(Named):
    """A container of another class than the one before it."""


class Tree(nn.Module):
    """Blocks that are attributes, at several levels, registered in another order than they run in."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = Residual(), Residual()
        self.middle = nn.ModuleDict({"by_key": Residual()})

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle["by_key"](self.first(x)))


def _runs(model: nn.Module) -> list[tuple[str, ...]]:
    return [skeleton.names for skeleton in skeletons(model)]


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Named("abc"), ("a", "b", "c")),
        (lambda: nn.Sequential(Named("a"), Other("b")), ("0.a", "1.b")),
        (lambda: nn.Sequential(nn.Sequential(Residual(), nn.Identity()), Other("b")), ("0.0", "1.b")),
        (Tree, ("first", "middle.by_key", "last")),
    ],
)
def test_blocks_of_any_container_are_wired_as_they_run(make: Callable[[], nn.Module], names: tuple[str, ...]) -> None:
    model, x = make(), torch.randn(4, 6)
    blocks = [copy.deepcopy(model.get_submodule(name)) for name in names]
    mm.rewire(model, "nesterov_y", example=x)
    assert _runs(model) == [names]
    torch.testing.assert_close(model(x), mm.unroll("nesterov_y", blocks, "operator")(x))


class Wired(nn.Module):
    """Blocks of which each is given the sum of some of the states before it."""

    def __init__(self, inputs: list[list[int]]) -> None:
        super().__init__()
        self.inputs = inputs
        self.blocks = nn.ModuleDict({f"number {k}": Residual() for k in range(len(inputs))})

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        for inputs, block in zip(self.inputs, self.blocks.values(), strict=True):
            states.append(block(states[inputs[0]] if len(inputs) == 1 else sum(states[i] for i in inputs)))
        return sum(states, torch.zeros_like(x))


@st.composite
def _wirings(draw: st.DrawFn) -> list[list[int]]:
    depth = draw(st.integers(2, 6))
    one = [st.one_of(st.just([k]), st.lists(st.integers(0, k), min_size=1, max_size=2)) for k in range(depth)]
    return [draw(inputs) for inputs in one]


@given(_wirings())
@settings(max_examples=20)
def test_of_any_wiring_the_rows_and_only_these_are_found(wiring: list[list[int]]) -> None:
    model, x = Wired(wiring), torch.randn(2, 6)
    read_alone = [[k for k, inputs in enumerate(wiring) if inputs == [j + 1]] for j in range(len(wiring))]
    follows = {j: after[0] for j, after in enumerate(read_alone) if len(after) == 1}
    rows = [[j] for j in follows if j not in follows.values()]
    for row in rows:
        while row[-1] in follows:
            row.append(follows[row[-1]])
    expected = model(x)
    if not rows:
        with pytest.raises(ValueError, match="nothing to rewire"):
            mm.rewire(model, "heavy_ball(momentum=0)", example=x)
        return
    mm.rewire(model, "heavy_ball(momentum=0)", example=x)
    assert sorted(_runs(model)) == sorted(tuple(f"blocks.number {k}" for k in row) for row in rows)
    torch.testing.assert_close(model(x), expected)


class Twice(Named):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(super().forward(x))


class Written(Named):
    def forward(self, x: Tensor) -> Tensor:
        return self["b"](self["a"](x).mul_(2))


class Unused(Named):
    def forward(self, x: Tensor) -> Tensor:
        return self["a"](x)


class Listed(Named):
    class OfList(Residual):
        def forward(self, x: Any) -> Any:
            return [super().forward(x[0])]

    def __init__(self) -> None:
        super().__init__("")
        self.update({name: self.OfList() for name in "ab"})

    def forward(self, x: Tensor) -> Tensor:
        return super().forward([x])[0]  # pyright: ignore[reportArgumentType]


class Parallel(Named):
    def forward(self, x: Tensor) -> Tensor:
        x = self["a"](x)
        return self["b"](x) + self["c"](x)


class Shrinking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Sequential(nn.Conv1d(1, 1, 3), nn.ReLU()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.parts[1](self.parts[0](x[:, None]))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Wired([[0], [0, 1], [0, 1, 2]]), "blocks.number 1 was not given what blocks.number 0 returned"),
        (Twice("ab"), "a was called 2 times"),
        (Written("ab"), "b was not given what a returned"),
        (Unused("ab"), "a, b|b was called 0 times"),
        (Listed(), "a was given no tensor, or not as an argument of its own"),
        (Parallel("abc"), "what a returned was given to b and c"),
        (Shrinking(), r"parts.0 maps \(2, 1, 6\) to \(2, 1, 4\)"),
        (Named("a"), "no blocks alike"),
        (nn.Sequential(nn.Sequential(nn.Linear(6, 6)), nn.Sequential(nn.Linear(6, 2))), r"0 and 1 \(Sequential\) diff"),
    ],
)
def test_where_nothing_is_in_a_row_the_reason_is_said(model: nn.Module, why: str) -> None:
    with pytest.raises(ValueError, match=f"nothing to rewire .* In a pass of the example: .*{why}"):
        mm.rewire(model, "heavy_ball", example=torch.randn(2, 6))


@pytest.mark.parametrize(
    ("example", "where", "why"),
    [
        (torch.randn(2, 5), None, r"Named fails on the example \(RuntimeError: .*expected a few of its inputs"),
        ("text", None, r"Named fails on the example \(TypeError"),
        ({"y": torch.randn(2, 6)}, None, r"Named fails on the example \(TypeError"),
        (torch.randn(2, 6), "z", "unknown module of Named 'z'"),
    ],
)
def test_bad_examples(example: Any, where: str | None, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        mm.rewire(Named("ab"), "heavy_ball", where, example=example)


def test_what_stands_beside_the_rows_is_told_and_where_bounds_the_search() -> None:
    x = torch.randn(2, 6)
    model = mm.rewire(nn.Sequential(Named("ab"), Parallel("abc")), "heavy_ball", example=x)
    assert _runs(model) == [("0.a", "0.b", "1.a")]
    lines = str(mm.changes(model))
    assert "  1.b stays as it is: alone, or not in a row with them" in lines
    assert "  alike, but in no row: 1.c was not given what 1.b returned" in lines
    model = mm.rewire(nn.Sequential(Named("ab"), Other("ab")), "heavy_ball", "1", example=x)
    assert _runs(model) == [("1.a", "1.b")]


def test_a_pass_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(), Named("ab")).train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    mm.rewire(model, "gradient_descent", example=torch.randn(9, 6, generator=torch.Generator()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    mm.changes(model).undo()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_without_an_example_a_dictionary_that_runs_numbered_blocks_is_a_stage_and_others_are_named() -> None:
    assert _runs(mm.rewire(Named(["b1", "b2"]), "heavy_ball")) == [("b1", "b2")]
    for choice in (nn.ModuleDict({"1": Residual(), "2": Residual()}), Named("xy")):
        with pytest.raises(ValueError, match=r"Alike, but perhaps not one after another: . \.\.\. .\. An example="):
            mm.rewire(choice, "heavy_ball")


def test_what_of_others_is_no_row_is_found_out_before_it_fails() -> None:
    require_torchvision("by the tests")
    import timm
    from torchvision.models import DenseNet

    densenet = DenseNet(4, (2, 2, 2, 2), 8, num_classes=2)
    for example in (None, torch.randn(1, 3, 32, 32)):
        with pytest.raises(
            ValueError, match=r"denselayer1 .*denselayer2 \(_DenseLayer\) differ: norm1.weight is \(8,\) and"
        ):
            mm.rewire(densenet, "heavy_ball", example=example)
    image = torch.randn(1, 3, 32, 32)
    # Positions are encoded between the first two blocks of a stage.
    twins = timm.create_model("twins_pcpvt_small", img_size=32, depths=(3, 1, 1, 1)).eval()
    before = twins(image)
    assert _runs(mm.rewire(twins, "heavy_ball(momentum=0)", example=image)) == [("blocks.0.1", "blocks.0.2")]
    torch.testing.assert_close(twins(image), before)

"""Which blocks are rewired, where they are asked, and who calls them."""

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from helpers import Residual
from minimand.networks.skeletons import skeletons


class Stage(nn.Module):
    """Numbered blocks that a container of its own class runs, as timm's RegNet does."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        for k in range(1, blocks + 1):
            self.add_module(f"b{k}", Residual())

    def forward(self, x: Tensor) -> Tensor:
        for block in self.children():
            x = block(x)
        return x


class Ladder(nn.Module):
    """Blocks in a module that its code runs by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (Residual() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x)))


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: nn.Sequential(*(Residual() for _ in range(3))), None),
        (lambda: Stage(3), None),
        (lambda: nn.Sequential(nn.Linear(6, 6), Stage(3)), None),
        (Ladder, ""),
    ],
)
def test_blocks_of_any_container_are_rewired(make: Any, where: str | None) -> None:
    model = make()
    x = torch.randn(4, 6)
    blocks = [copy.deepcopy(m) for m in model.modules() if isinstance(m, Residual)]
    first = x if isinstance(model, Stage | Ladder) or isinstance(model[0], Residual) else model[0](x)
    expected = mm.unroll("nesterov_y", blocks, "operator")(first)
    torch.testing.assert_close(mm.rewire(model, "nesterov_y", where)(x), expected)


def test_modules_that_are_alike_but_no_stage_are_left_alone() -> None:
    """Two attentions beside other modules, and the parts of a block, are no container of blocks."""
    decoder = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    with pytest.raises(ValueError, match="nothing to rewire"):
        mm.rewire(decoder, "heavy_ball")
    model = nn.Sequential(Stage(2), Stage(2))
    assert [run.names for run in skeletons(mm.rewire(model, "heavy_ball"))] == [("0", "1")]


def test_a_block_of_another_stride_is_no_part_of_a_run() -> None:
    def block(stride: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 2, 3, stride, 1), nn.ReLU())

    model = nn.Sequential(*(block(stride) for stride in (2, 1, 1)))
    x = torch.randn(1, 2, 8, 8)
    before = model(x)
    assert [run.names for run in skeletons(mm.rewire(model, "heavy_ball(momentum=0)"))] == [("1", "2")]
    torch.testing.assert_close(model(x), before)
    assert "  0 stays as it is: of other shapes or strides" in str(mm.changes(model))


@pytest.mark.parametrize(
    ("exclude", "runs"), [("0", [("1", "2", "3", "4")]), (["2"], [("0", "1"), ("3", "4")]), (("1",), [("2", "3", "4")])]
)
def test_single_blocks_are_excluded_by_name(exclude: Any, runs: list[tuple[str, ...]]) -> None:
    model = nn.Sequential(*(Residual() for _ in range(5)))
    x, plain = torch.randn(4, 6), copy.deepcopy(model)
    mm.rewire(model, "heavy_ball(momentum=0.4)", exclude=exclude)
    assert [run.names for run in skeletons(model)] == runs
    assert f"  {exclude[0]} stays as it is: excluded" in str(mm.changes(model))
    expected = x
    wired = {names[0]: names for names in runs}
    for name, block in plain.named_children():
        if name in wired:
            blocks = [plain.get_submodule(n) for n in wired[name]]
            expected = mm.unroll("heavy_ball(momentum=0.4)", blocks, "operator")(expected)
        elif not any(name in names for names in runs):
            expected = block(expected)
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize(
    ("exclude", "message"),
    [("9", "unknown block of Sequential to exclude '9'"), (["0", "2"], "leaves no two consecutive blocks")],
)
def test_what_cannot_be_excluded(exclude: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mm.rewire(nn.Sequential(*(Residual() for _ in range(3))), "heavy_ball", exclude=exclude)


class Anywhere(Residual):
    """A block with a gate of the state's shape, under names that say nothing."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.branch(a).tanh() * b + a if self.state_first else b + self.branch(b).tanh() * a

    state_first = True


class Gated(nn.Module):
    def __init__(self, order: str) -> None:
        super().__init__()
        self.layers, self.order = nn.ModuleList(Anywhere() for _ in range(3)), order
        for layer in self.layers:
            cast(Anywhere, layer).state_first = order in ("x, gate", "a=x", "b=gate, a=x")

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        for layer in self.layers:
            if self.order == "x, gate":
                x = layer(x, gate)
            elif self.order == "gate, x":
                x = layer(gate, x)
            elif self.order == "a=x":
                x = layer(x, b=gate)
            elif self.order == "b=gate, a=x":
                x = layer(b=gate, a=x)
            else:
                x = layer(a=gate, b=x)
        return x


@pytest.mark.parametrize("order", ["x, gate", "gate, x", "a=x", "b=gate, a=x", "a=gate, b=x"])
@pytest.mark.parametrize("learned", [True, False])
def test_the_state_is_told_from_tensors_of_its_shape(order: str, learned: bool) -> None:
    """By what is handed on; a first call for which that comes too late says so, and the next one is right."""
    model, x, gate = Gated(order), torch.randn(4, 6, requires_grad=learned), torch.rand(4, 6)
    copies = copy.deepcopy(model).layers
    state, previous = x, x
    for layer in copies:  # heavy ball on the operator's gradient, by hand
        answer = layer(state, gate) if cast(Anywhere, layer).state_first else layer(gate, state)
        state, previous = answer + 0.4 * (state - previous), state
    mm.rewire(model, "heavy_ball(momentum=0.4)")
    if order in ("gate, x", "a=gate, b=x") and not learned:
        with pytest.raises(RuntimeError, match="'a' was taken for the state; by what layers.1 was given it is 'b'"):
            model(x, gate)
    result = model(x, gate)
    torch.testing.assert_close(result, state)
    if order == "gate, x":
        torch.testing.assert_close(torch.compile(model, backend="eager")(x, gate), state)


def test_hooks_from_before_see_what_the_rewired_model_hands_on() -> None:
    """Hidden states are taken by hooks, of transformers too, which may be on the blocks already."""
    model = nn.Sequential(*(Residual() for _ in range(3)))
    states: list[Any] = []
    for block in model:
        block.register_forward_hook(lambda module, args, output: states.append(output))
    mm.rewire(model, "heavy_ball(momentum=0.5)")
    inputs: list[Tensor] = []
    for block in model:
        block.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    output = model(torch.randn(2, 6))
    assert all(a is b for a, b in zip(states, [*inputs[1:], output], strict=True))


@pytest.mark.parametrize("at", ["blocks", "branches"])
def test_threads_do_not_disturb_each_other(at: Any) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False).eval()
    mm.rewire(model, "nesterov_y", at=at)
    batches = [torch.randn(2, 3, 8) for _ in range(24)]
    with torch.no_grad():
        expected = [model(x) for x in batches]

        def run(x: Tensor) -> Tensor:
            with torch.no_grad():
                return model(x)

        with ThreadPoolExecutor(8) as pool:
            outputs = list(pool.map(run, batches))
    for output, before in zip(outputs, expected, strict=True):
        torch.testing.assert_close(output, before)

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand._support.torch.torchvision import require_timm
from minimand.blocks.dense import two_layer
from minimand.networks.skeletons import skeletons

L = mm.Learnable


class Residual(nn.Module):
    """Somebody's block: x + f(x)."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.branch = two_layer(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Pair(Residual):
    """As in transformers: the state first, something else after it; asked by keyword."""

    def forward(self, hidden: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(hidden), "attention"


class Pairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Pair() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x, _ = layer(hidden=x)
        return x


def _model(depth: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.Sequential(*[Residual() for _ in range(depth)]), nn.Linear(6, 2))


ALGORITHMS = [
    "heavy_ball(momentum=0.7)",
    "nesterov_y(momentum=0.4)",
    "fista",
    "dense_nesterov",
    "leapfrog",
    "hessian_damped",
    "heavy_ball(momentum=Learnable(0.5, 0, 1))",
    "nesterov(momentum=Learnable(0.5, 0, 1), step_size=Learnable(0.9, 0, 2))",
]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_rewired_model_is_the_unrolled_one(algorithm: str) -> None:
    """The same blocks under the operator binding; values and gradients."""
    model = _model()
    blocks = [copy.deepcopy(block) for block in model[1]]  # pyright: ignore[reportGeneralTypeIssues]
    reference = nn.Sequential(
        copy.deepcopy(model[0]), mm.unroll(algorithm, blocks, "operator"), copy.deepcopy(model[2])
    )
    mm.rewire(model, algorithm)
    x = torch.randn(4, 3)
    torch.testing.assert_close(model(x), reference(x))
    for network in (model, reference):
        network(x).square().sum().backward()
    ours = {name: p.grad for name, p in model.named_parameters()}
    for name, p in reference.named_parameters():
        if "coefficients" in name:
            mine = ours["1.0.rewired_" + name.rpartition(".")[2]]
        else:
            mine = ours[name.replace("layers.", "").replace("block.", "")]
        torch.testing.assert_close(mine, p.grad)


@pytest.mark.parametrize("make", [_model, Pairs])
def test_without_momentum_nothing_changes_and_all_can_be_undone(make) -> None:
    model = make()
    x = torch.randn(4, 6 if make is Pairs else 3)
    before, names = model(x), list(model.state_dict())
    assert mm.rewire(model, "gradient_descent") is model
    assert torch.equal(model(x), before)
    mm.changes(model).undo()
    mm.rewire(model, "heavy_ball(momentum=0)")
    assert torch.equal(model(x), before)
    assert list(model.state_dict()) == names
    mm.changes(model).undo()
    mm.rewire(model, "heavy_ball(momentum=Learnable(0.5, 0, 1))")
    assert not torch.equal(model(x), before)
    assert mm.changes(model).undo() is model
    assert not mm.changes(model)
    assert list(model.state_dict()) == names
    assert torch.equal(model(x), before)


def test_it_tells_what_it_did() -> None:
    model = mm.rewire(_model(4), "heavy_ball")
    assert [run.names for run in skeletons(model)] == [("1.0", "1.1", "1.2", "1.3")]
    assert "1.0 ... 1.3  (4 blocks) by HeavyBall" in str(mm.changes(model))


def test_runs_end_where_shapes_change() -> None:
    model = nn.Sequential(Residual(6), Residual(6), nn.Linear(6, 8), Residual(8), Residual(8), Residual(8), Residual(6))
    mm.rewire(model, "heavy_ball")
    assert [run.names for run in skeletons(model)] == [("0", "1"), ("3", "4", "5")]


def test_copies_are_rewired_on_their_own() -> None:
    model = mm.rewire(_model(), "heavy_ball(momentum=Learnable(0.5, 0, 1))")
    x = torch.randn(4, 3)
    before = model(x)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(x), before)
        copied.get_parameter("1.0.rewired_momentum").data.fill_(0.1)
        assert not torch.equal(copied(x), before)
        assert torch.equal(model(x), before)


def test_learnable_coefficients_train_and_stay_within_bounds() -> None:
    model = mm.rewire(_model(), "heavy_ball(momentum=Learnable(0, 0, 1))")
    momentum = model.get_parameter("1.0.rewired_momentum")
    model(torch.randn(4, 3)).square().sum().backward()
    assert momentum.grad is not None
    assert momentum.grad[1:].abs().min() > 0
    momentum.data.copy_(torch.tensor([3.0, -1.0, 0.5, 0.5, 2.0]))
    model(torch.randn(4, 3))
    assert momentum.tolist() == [1.0, 0.0, 0.5, 0.5, 1.0]


@pytest.mark.parametrize("algorithm", ["nesterov_y", "heavy_ball(momentum=Learnable(0.5, 0, 1))"])
def test_it_compiles_as_one_graph_exports_and_traces(algorithm: str) -> None:
    model = mm.rewire(_model(), algorithm)
    x = torch.randn(4, 3)
    expected = model(x)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tracing is deprecated, and that shapes are looked at
        traced: Any = torch.jit.trace(model, x)
    torch.testing.assert_close(traced(x), expected)
    torch.testing.assert_close(torch.export.export(model.eval(), (x,)).module()(x), expected)


def test_a_graph_compiled_before_is_not_run_for_another_wiring() -> None:
    """Whether of the same model or of another of its class."""
    torch.compiler.reset()
    x = torch.randn(4, 3)
    model = _model()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    before = compiled(x)
    for algorithm in ("heavy_ball(momentum=0.5)", "heavy_ball(momentum=0.9)"):
        other = mm.rewire(_model(), algorithm)
        assert not torch.allclose(other(x), before)
        torch.testing.assert_close(torch.compile(other, fullgraph=True, backend="eager")(x), other(x))
    mm.rewire(model, "nesterov_y")
    torch.testing.assert_close(compiled(x), model(x))
    mm.changes(model).undo()
    torch.testing.assert_close(compiled(x), before)
    assert "forward" not in model.get_submodule("1.0").__dict__


def test_an_encoder_of_transformers_is_rewired() -> None:
    require_timm()  # makes torchvision, which transformers imports, importable beside a CPU build of torch
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16, vocab_size=20
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    x = torch.randint(20, (2, 5))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    before = model(x, mask)[0]
    blocks = mm.unroll("nesterov_y", list(copy.deepcopy(model.encoder.layer)), "operator")

    mm.rewire(model, "heavy_ball(momentum=0)")
    assert [run.depth for run in skeletons(model)] == [3]
    assert torch.equal(model(x, mask)[0], before)
    mm.rewire(mm.changes(model).undo(), "nesterov_y")
    expected = model(x)[0]
    torch.testing.assert_close(expected, blocks(model.embeddings(x)))
    assert not torch.allclose(model(x, mask)[0], before)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(x)[0], expected)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x)[0], expected)
    assert torch.equal(mm.changes(model).undo()(x, mask)[0], before)


def test_a_failed_call_leaves_nothing_behind() -> None:
    model = mm.rewire(_model(), "heavy_ball")
    x = torch.randn(4, 3)
    expected = model(x)
    handle = model.get_submodule("1.3").register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(x)
    handle.remove()
    assert torch.equal(model(x), expected)


class Parallel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Residual() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.heads[0](x) + self.heads[1](x)


class Narrowing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[:, :3]


def test_what_is_no_chain_is_found_out_at_the_first_call() -> None:
    with pytest.raises(RuntimeError, match=r"heads.1 was not given what heads.0 returned.*Name the containers"):
        mm.rewire(Parallel(), "heavy_ball")(torch.randn(2, 6))
    with pytest.raises(RuntimeError, match=r"0 maps \(2, 6\) to \(2, 3\); a rewired block has to keep the shape"):
        mm.rewire(nn.Sequential(Narrowing(), Narrowing()), "heavy_ball")(torch.randn(2, 6))
    model = mm.rewire(_model(), "heavy_ball")
    with pytest.raises(RuntimeError, match=r"1.2 was called out of order"):
        model.get_submodule("1.2")(torch.randn(2, 6))


@pytest.mark.parametrize(
    ("model", "algorithm", "where", "message"),
    [
        (nn.Linear(2, 2), "heavy_ball", None, "nothing to rewire in Linear: .* Looked at no container"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "heavy_ball", None, r"Looked at \(the model\): Linear"),
        (_model(), "linearized_admm", None, "asks several answers in a step"),
        (_model(), "proximal_gradient", None, "asks several answers in a step, or a prox"),
        (_model(), "heavy_bal", None, "Did you mean 'heavy_ball'"),
        (_model(), "heavy_ball", "10", "unknown module of Sequential '10'"),
        (_model(), "heavy_ball", ["1.0"], "nothing to rewire"),
        (mm.rewire(_model(), "heavy_ball"), "heavy_ball", None, "is rewired already; undo it first"),
        (mm.create_model("mlp"), "heavy_ball", None, "runs an algorithm already; give mm.create_model"),
    ],
)
def test_bad_input(model: nn.Module, algorithm: str, where, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mm.rewire(model, algorithm, where)


class InPlace(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.relu_(x))


@pytest.mark.parametrize("grad", [True, False])
def test_a_block_that_writes_into_its_input_is_refused(grad: bool) -> None:
    x = torch.randn(4, 6)
    with torch.set_grad_enabled(grad):
        with pytest.raises(RuntimeError, match="0 writes into its input.*without inplace=True"):
            mm.rewire(nn.Sequential(InPlace(), InPlace()), "heavy_ball")(x.clone())
        with pytest.raises(ValueError, match=r"block 0 \(InPlace\) writes into its input"):
            mm.unroll("heavy_ball", [InPlace(), InPlace()])(x.clone())


class Masked(Residual):
    def forward(self, mask: Tensor, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return x + mask * self.branch(x)


class WithMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Masked() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(torch.ones(6), x)
        return x


def test_the_state_may_come_after_a_mask() -> None:
    model = WithMask()
    x = torch.randn(4, 6)
    blocks = [Residual() for _ in range(3)]
    for block, layer in zip(blocks, model.layers, strict=True):
        block.load_state_dict(layer.state_dict())
    torch.testing.assert_close(
        mm.rewire(model, "heavy_ball(momentum=0.4)")(x), mm.unroll("heavy_ball(momentum=0.4)", blocks, "operator")(x)
    )


class Named(Residual):
    def forward(self, x: Tensor) -> Any:
        return {"hidden": super().forward(x)}


def test_a_block_that_returns_something_else_is_named() -> None:
    with pytest.raises(RuntimeError, match="0 returned dict; a rewired block has to return a tensor"):
        mm.rewire(nn.Sequential(Named(), Named()), "heavy_ball")(torch.randn(2, 6))


def test_two_rewirings_of_one_model_keep_their_own_algorithm() -> None:
    model = nn.ModuleDict({name: nn.Sequential(Residual(), Residual()) for name in "ab"})
    names = list(model.state_dict())
    mm.rewire(model["a"], "nesterov_y(momentum=Learnable(0.5, 0, 0.9))")
    mm.rewire(model["b"], "heavy_ball(momentum=Learnable(0.2, 0, 1))")
    assert [type(run.learned).__name__ for run in skeletons(model)] == ["NesterovY", "HeavyBall"]
    assert "in a: Sequential rewired:\n  0 ... 1  (2 blocks) by NesterovY" in str(mm.changes(model))
    mm.changes(model).undo()
    assert not skeletons(model)
    assert not mm.changes(model)
    assert list(model.state_dict()) == names


def test_fit_keeps_learnable_coefficients_within_their_bounds() -> None:
    torch.manual_seed(0)
    model = mm.rewire(_model(), "heavy_ball(momentum=Learnable(0.5, 0.499, 0.501))")
    data = [(torch.randn(64, 3), torch.randint(2, (64,))) for _ in range(2)]
    mm.fit(model, tuple(data), recipe=mm.Recipe(epochs=3, batch_size=16, optimizer=mm.SGD(lr=0.3)))
    momentum = model.get_parameter("1.0.rewired_momentum")
    assert sorted({round(v, 4) for v in momentum.tolist()}) in ([0.499, 0.5], [0.5, 0.501], [0.499, 0.5, 0.501])
    (run,) = skeletons(model)
    assert run.learned.coefficients()["momentum"](2) == pytest.approx(float(momentum.detach()[2]))


def test_a_run_with_other_blocks_rewired_is_another(tmp_path: Path) -> None:
    def trained(where: str, epochs: int = 1) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Sequential(Residual(), Residual()), nn.Sequential(Residual(), Residual()))
        data = tuple((torch.randn(32, 6), torch.randint(6, (32,))) for _ in range(2))
        mm.fit(mm.rewire(model, "heavy_ball", where), data, recipe=mm.Recipe(epochs=epochs), run=tmp_path / "run")

    trained("0")
    with pytest.raises(mm.training.RunError, match="the algorithm is not what it was"):
        trained("1")

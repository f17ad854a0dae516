"""Stages that run backwards in several processes, in half precision, and compiled: their gradients."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

import minimand as mm
from ranks import on_ranks

from .stages import BLOCKS, SHAPES, difference, remembering, stage

LEARNABLE = "heavy_ball(momentum=Learnable(0.9, 0, 1))"


def _model(memory: Any = "store", exact: bool | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6)) for _ in range(4)]
    return nn.Sequential(nn.Linear(6, 6), mm.unroll(LEARNABLE, blocks, memory=memory, exact=exact), nn.Linear(6, 2))


def _gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    for _ in range(2):  # the first call runs back once more
        model.zero_grad()
        model(x).square().mean().backward()
    gradients: list[Any] = [p.grad for p in model.parameters()]
    return [g.full_tensor() if hasattr(g, "full_tensor") else g for g in gradients]


def _batch() -> Tensor:
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(1))


def _sharded(with_stage: bool) -> nn.Module:
    model = _model("reversible")
    if with_stage:
        fully_shard(model[1])
    fully_shard(model)
    return model


def _in_a_process(rank: int, folder: Path) -> tuple[list[list[Tensor]], str]:
    dist.init_process_group("gloo")
    share = _batch()[rank::2]
    models = [DistributedDataParallel(_model("reversible", exact)) for exact in (None, True)]
    gradients = [_gradients(model, share) for model in [*models, _sharded(True), _sharded(False)]]
    with pytest.raises(ValueError, match="is sharded") as caught:
        mm.fit(_model("reversible"), (_batch(), torch.zeros(8, dtype=torch.int64)), parallel="fsdp")
    return gradients, str(caught.value)


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    """With DDP, and with FSDP of whole stages; blocks that are sharded one by one are an error."""
    expected = _gradients(_model(), _batch())
    for outcome in on_ranks(2, tmp_path, _in_a_process):
        gradients, message = outcome
        assert all(difference(own, expected) < 1e-5 for own in gradients)
        assert "expected DistributedDataParallel" in message


@pytest.mark.parametrize(("family", "exact"), [*product(BLOCKS, [None, True])])
def test_autocast_is_entered_again(family: str, exact: bool | None) -> None:
    """Both runs of a block are in half precision; gradients are as near to those in single as stored ones are."""
    stored = stage(mm.algorithms.MomentumResidual(), "residual", family).float()
    x = torch.randn(SHAPES[family])

    def gradients(model: nn.Module, enabled: bool = True) -> list[Tensor]:
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = model(x)
        return list(torch.autograd.grad(y.float().square().sum(), list(model.parameters())))

    single, other = gradients(stored, enabled=False), remembering(stored, "reversible", exact)
    types: list[torch.dtype] = []
    assert difference(gradients(other), single) < 1.3 * difference(gradients(stored), single)
    other.blocks[0].register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    gradients(other)
    assert types == [torch.bfloat16] * 2


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("family", ["mlp", "cnn with batch norm"])
def test_blocks_that_are_compiled_run_back(family: str) -> None:
    stored = stage(mm.algorithms.MomentumResidual(), "residual", family).float()
    x = torch.randn(SHAPES[family])

    def gradients(model: nn.Module) -> list[Tensor]:
        return list(torch.autograd.grad(model(x).square().sum(), list(model.parameters())))

    expected, other = gradients(stored), remembering(stored, "reversible")
    for block in other.blocks:
        block.compile()
    assert difference(gradients(other), expected) < 1e-5
    whole = mm.compiled(remembering(stored, "reversible"))
    assert difference(gradients(whole), expected) < 1e-5
    torch.compiler.reset()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("algorithm", ["leapfrog", "bdia"])
def test_few_numbers_that_half_precision_rounds_otherwise_are_no_drift(algorithm: str) -> None:
    """How far states are off is measured by one norm, at the first call and after each step."""
    torch.manual_seed(0)
    sizes: Any = {"num_tokens": 20, "context": 16, "width": 32, "depth": 4}
    model: Any = mm.create_model("gpt_nano", algorithm, memory="reversible", **sizes)
    tokens = model.noise(16)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(tokens)
        logits.float().square().mean().backward()
    assert (model.stages[0].roundoff or 1) < 1e-4


def _rewired(memory: Any) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    return mm.rewire(
        nn.Sequential(nn.Linear(6, 8), nn.Unflatten(1, (1, 8)), encoder), LEARNABLE, None, "branches", (), memory
    )


@pytest.mark.parametrize("make", [_model, _rewired])
@pytest.mark.parametrize("memory", ["checkpoint", "reversible"])
def test_a_model_is_diagnosed_and_started_as_if_it_stored_everything(make: Any, memory: Any) -> None:
    """A layer runs once while it is measured, and second derivatives are those of the model."""
    reports = [str(mm.diagnose(make(chosen), _batch())) for chosen in ("store", memory)]
    assert reports[0] == reports[1]
    target = torch.zeros(8, 2) if make is _model else torch.zeros(8, 1, 8)
    for scheme in ("metainit(steps=2)", "gradinit(steps=2)"):
        models = [make(chosen) for chosen in ("store", memory)]
        for model in models:
            mm.initialize(model, scheme, batch=_batch(), target=target, loss="mse")
        assert all(torch.equal(p, q) for p, q in zip(*(model.parameters() for model in models), strict=True))
        assert models[1](_batch()).grad_fn is not None


@pytest.mark.parametrize("trained", [True, False])
def test_weights_given_to_one_call_are_those_of_its_backward_pass(trained: bool) -> None:
    """`torch.func.functional_call` has them in the model during the forward pass alone."""
    gradients = {}
    for memory in ("store", "checkpoint", "reversible"):
        model, x = _model(memory), _batch().requires_grad_()
        weights = {name: (1.5 * p.detach()).requires_grad_(trained) for name, p in model.named_parameters()}
        y = functional_call(model, weights, (x,))
        gradients[memory] = torch.autograd.grad(y.square().mean(), [x, *(w for w in weights.values() if trained)])
    assert difference(gradients["checkpoint"], gradients["store"]) < 1e-5
    assert difference(gradients["reversible"], gradients["store"]) < 1e-5


class _Buffered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.register_buffer("scale", torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return 0.3 * torch.tanh(self.norm(self.map(x)) * self.scale)


def _buffered(kind: Any) -> nn.Module:
    torch.manual_seed(0)
    if kind == "equilibrium":
        return mm.Equilibrium(_Buffered())
    return mm.unroll("heavy_ball(momentum=0.9)", [_Buffered() for _ in range(3)], memory=kind)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["checkpoint", "reversible", "equilibrium"])
def test_buffers_given_to_one_call_are_those_of_its_backward_pass(kind: str, training: bool) -> None:
    """They are the gradients of a model that has these buffers for good."""
    gradients = []
    for for_good in (True, False):
        model = _buffered("store" if for_good and kind != "equilibrium" else kind).train(training)
        others = {name: b + 0.5 if b.is_floating_point() else b.clone() for name, b in model.named_buffers()}
        if for_good:
            model.load_state_dict(others, strict=False)
        y = model(_batch()) if for_good else functional_call(model, others, (_batch(),))
        gradients.append(torch.autograd.grad(y.square().sum(), [*model.parameters()]))
    assert difference(*gradients) < 1e-5


@pytest.mark.parametrize("memory", ["checkpoint", "reversible"])
def test_what_a_model_is_set_to_after_a_pass_does_not_change_its_gradients(memory: Any) -> None:
    """Nor do hooks on gradients see parts of them, a second time, or the backward pass change the mode."""
    gradients = {}
    for chosen in ("store", memory):
        model = remembering(stage(mm.algorithms.HeavyBall(momentum=0.9), "residual", "cnn with batch norm"), chosen)
        noisy: Any = model.blocks[0]
        noisy[2] = nn.Dropout(0.5)
        x = torch.randn(SHAPES["cnn with batch norm"], generator=torch.Generator().manual_seed(1)).double()
        model(x)
        for parameter in model.parameters():
            parameter.register_hook(lambda gradient: 3 * gradient)
        torch.manual_seed(2)
        y = model(x)
        model.eval()
        gradients[chosen] = list(torch.autograd.grad(y.square().sum(), list(model.parameters())))
        assert not any(part.training for part in model.modules())
    assert difference(gradients[memory], gradients["store"]) < 1e-10


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("exact", [None, True, False])
def test_batches_of_zeros_and_of_nothing_are_like_any_other(exact: bool | None) -> None:
    stored, back = _model()[1], _model("reversible", exact)[1]
    back(torch.zeros(0, 6)).sum().backward()
    for x in (torch.zeros(8, 6), _batch()):
        assert difference(_gradients(back, x), _gradients(stored, x)) < 1e-5


class _Tied(nn.Module):
    """A block that has one weight in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 6), nn.Linear(6, 6)
        self.outer.weight = self.inner.weight

    def forward(self, x: Tensor) -> Tensor:
        return 0.3 * self.outer(torch.tanh(self.inner(x)))


@pytest.mark.parametrize("memory", ["checkpoint", "reversible"])
def test_weights_in_several_places_or_made_of_others_have_the_gradients_of_stored_ones(memory: Any) -> None:
    gradients = {}
    for chosen in ("store", memory):
        torch.manual_seed(0)
        tied = mm.unroll(LEARNABLE, [_Tied() for _ in range(3)], memory=chosen)
        own = torch.autograd.grad(tied(_batch()).square().mean(), list(tied.parameters()))
        scale = torch.ones((), requires_grad=True)
        weight = scale * tied.get_parameter("layers.0.block.inner.weight")
        weights = {"layers.0.block.inner.weight": weight, "layers.0.block.outer.weight": 2 * weight}
        y = functional_call(tied, weights, (_batch(),), tie_weights=False)
        gradients[chosen] = [*own, *torch.autograd.grad(y.square().mean(), scale)]
    assert difference(gradients[memory], gradients["store"]) < 1e-5

import math

import pytest
import torch
from torch import nn

import minimand as mm
from minimand._support.torch.torchvision import require_timm
from minimand.trainability.initialization.weighted_layers import weight_blocks


@pytest.mark.parametrize(
    ("module", "fan_in", "fan_out"),
    [
        (nn.Linear(3, 5), 3, 5),
        (nn.Conv2d(32, 64, 3), 288, 576),
        (nn.Conv2d(32, 32, 3, groups=32), 9, 9),
        (nn.Conv2d(8, 16, 4, stride=2), 128, 64),
        (nn.Conv1d(12, 24, 5, groups=3), 20, 40),
        (nn.ConvTranspose2d(32, 64, 3), 288, 576),
        (nn.ConvTranspose2d(32, 64, 4, stride=2), 128, 1024),
        (nn.Bilinear(3, 4, 5), 12, 5),
    ],
)
def test_fans_of_one_block(module: nn.Module, fan_in: int, fan_out: int) -> None:
    (block,) = weight_blocks(module)
    assert (block.fan_in, block.fan_out) == (fan_in, fan_out)


def test_projections_and_gates_are_blocks_of_their_own() -> None:
    attention = weight_blocks(nn.MultiheadAttention(8, 2))
    assert [(b.parameter, b.rows.start, b.fan_in, b.fan_out) for b in attention] == [
        ("in_proj_weight", 0, 8, 8),
        ("in_proj_weight", 8, 8, 8),
        ("in_proj_weight", 16, 8, 8),
        ("out_proj.weight", None, 8, 8),
    ]
    unequal = weight_blocks(nn.MultiheadAttention(8, 2, kdim=3, vdim=5))
    assert [(b.parameter, b.fan_in) for b in unequal[:3]] == [
        ("q_proj_weight", 8),
        ("k_proj_weight", 3),
        ("v_proj_weight", 5),
    ]
    lstm = weight_blocks(nn.LSTM(3, 4, proj_size=2))
    assert [(b.parameter, b.fan_in, b.fan_out) for b in lstm] == [
        *[("weight_ih_l0", 3, 4)] * 4,
        *[("weight_hh_l0", 2, 4)] * 4,
        ("weight_hr_l0", 4, 2),
    ]
    assert len(weight_blocks(nn.GRUCell(3, 4))) == 6
    assert [b.fan_out for b in weight_blocks(nn.Linear(4, 12), "layer.qkv")] == [4, 4, 4]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.Conv2d(32, 64, 3, padding=1, groups=4),
        nn.ConvTranspose2d(32, 64, 3, padding=1),
        nn.ConvTranspose2d(32, 64, 4, stride=2, padding=1),
        nn.Linear(32, 64),
    ],
    ids=str,
)
@pytest.mark.parametrize("scheme", ["lecun", "critical(weights='gaussian')", "critical"])
def test_the_output_keeps_the_variance_of_the_input(layer: nn.Module, scheme: str) -> None:
    # Averaged over draws of the weights, away from the border.
    x = torch.randn(2, 32, 12, 12) if not isinstance(layer, nn.Linear) else torch.randn(200, 32)
    sizes = []
    for seed in range(10):
        mm.initialize(layer, scheme, generator=torch.Generator().manual_seed(seed))
        y = layer(x).detach()
        sizes.append(float((y[..., 3:-3, 3:-3] if y.ndim == 4 else y).square().mean()))
    assert sum(sizes) / len(sizes) == pytest.approx(1.0, abs=0.15)


def test_the_gradient_keeps_its_variance_by_fan_out() -> None:
    for layer in (nn.Conv2d(32, 64, 4, stride=2, padding=1), nn.Conv2d(32, 32, 3, padding=1, groups=32)):
        sizes = []
        for seed in range(10):
            mm.initialize(layer, "kaiming(mode='fan_out')", generator=torch.Generator().manual_seed(seed))
            x = torch.randn(2, 32, 16, 16, requires_grad=True)
            y = layer(x)
            (gradient,) = torch.autograd.grad(y, x, torch.randn_like(y))
            sizes.append(float(gradient[..., 4:-4, 4:-4].square().mean()))
        assert sum(sizes) / len(sizes) == pytest.approx(1.0, abs=0.15)


def test_matrices_and_back() -> None:
    for layer in (nn.Conv2d(6, 4, 3, groups=2), nn.ConvTranspose2d(6, 4, 3, groups=2)):
        (block,) = weight_blocks(layer)
        matrices = block.matrices(layer.weight.detach())
        assert matrices.shape == (2, 2, 27)
        weight = torch.empty_like(layer.weight)
        block.assign(weight, matrices)
        assert torch.equal(weight, layer.weight)
    # A transposed convolution of one pixel is its matrix.
    layer = nn.ConvTranspose2d(6, 4, 1, groups=2, bias=False)
    (block,) = weight_blocks(layer)
    x = torch.randn(1, 6, 1, 1)
    expected = torch.einsum("goi,gi->go", block.matrices(layer.weight), x.view(2, 3))
    torch.testing.assert_close(layer(x).flatten(), expected.flatten())
    assert math.prod(layer.weight.shape) == block.matrices(layer.weight).numel()


def test_the_layers_of_gpt2_lie_on_their_side() -> None:
    """Their weights are (in, out): query, key and value are columns."""
    require_timm()  # makes torchvision, which transformers imports, importable beside a CPU build of torch
    transformers = pytest.importorskip("transformers")
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16, "vocab_size": 50}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    ids = {"input_ids": torch.randint(50, (6, 9))}
    assert [stat.kind for stat in mm.diagnose(model, ids).layers] == ["Conv1D"] * 8 + ["Linear"]
    layer = model.transformer.h[0]
    assert [(b.fan_in, b.fan_out) for b in weight_blocks(layer.attn.c_attn, "h.0.attn.c_attn")] == [(16, 16)] * 3
    assert [(b.fan_in, b.fan_out) for b in weight_blocks(layer.mlp.c_fc, "h.0.mlp.c_fc")] == [(16, 64)]
    mm.initialize(model, "orthogonal", exclude=["lm_head"])
    for part in layer.attn.c_attn.weight.split(16, 1):
        torch.testing.assert_close(part @ part.T, torch.eye(16))
    # Attention and the layers after it, in each of two blocks.
    report = mm.initialize(model, "skipinit", batch=ids)
    assert sum("a learned factor of 0" in note for note in report.notes) == 4
    states = model(**ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(states[-1], model.transformer.ln_f(states[0]))
    with pytest.raises(ValueError, match=r"lm_head\.weight and transformer\.wte\.weight are one parameter"):
        mm.initialize(model, "lsuv", batch=ids)
    assert "transformer.h.0.mlp.c_fc" in str(mm.initialize(model, "lsuv", batch=ids, exclude=["lm_head"]))

"""The lines of certificates on the blocks that people train: ours, timm's, and those that no statement covers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import minimand as mm
from minimand._support.torch.torchvision import require_timm
from minimand.blocks.attention import Attention, Rotary
from minimand.blocks.convnext import ConvNeXtBranch
from minimand.blocks.convolutional import Skip, bottleneck, post_activation, pre_activation
from minimand.blocks.transformer import Map, ParallelLayer, TransformerBranch, WholeLayer
from minimand.models import model_info
from minimand.report.explain import certify_model

IMAGES = "all maps of one image size (zero padding)"
EQUIVARIANT = "shift-equivariant maps (circular padding)"
LAST = "an activation is last in the block"


def _line(certificate: Any, name: str) -> str:
    """The line of a statement as a certificate has it: verdict, name, reason."""
    rows = [row for row in certificate.rows() if name in row[1].split(", ")]
    assert len(rows) == 1, certificate
    return " ".join(rows[0])


def _convolutions(act: nn.Module, **options: Any) -> nn.Sequential:
    settings: dict[str, Any] = {"kernel_size": 3, "padding": 1, **options}
    return nn.Sequential(nn.Conv2d(8, 8, **settings), act, nn.Conv2d(8, 8, 1))


def _normed(norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(8, 8, 1))


BLOCKS: dict[str, tuple[nn.Module, str]] = {
    "zeros": (_convolutions(nn.ReLU()), f"universal U6 among {IMAGES}: equal to shallow nets in the sup norm"),
    "circular": (_convolutions(nn.GELU(), padding_mode="circular"), f"universal U6 among {EQUIVARIANT}: equal to"),
    "no odd part": (_convolutions(nn.Tanh(), padding_mode="circular"), f"universal U6 among {EQUIVARIANT}: dense"),
    "zeros, no ReLU": (_convolutions(nn.GELU()), f"universal U6 among {IMAGES}: dense in the sup norm"),
    "five taps": (_convolutions(nn.ReLU(), kernel_size=5, padding=2), "universal U6"),
    "post-activation branch": (post_activation(8, 8), "universal U6"),
    "pre-activation": (pre_activation(8, 8), "provided channels >= c_in + c_out + 3"),
    "depthwise, then pointwise": (
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 1)),
        "universal U6",
    ),
    "reflect": (_convolutions(nn.ReLU(), padding_mode="reflect"), "not covered U6 reflect padding"),
    "dilated": (_convolutions(nn.ReLU(), dilation=2, padding=2), "not covered U6 dilation 2"),
    "grouped": (nn.Sequential(*_convolutions(nn.ReLU(), groups=2)), "not covered U6 groups that separate channels"),
    "no padding": (_convolutions(nn.ReLU(), padding=0), "not covered U6 padding (0, 0)"),
    "even": (_convolutions(nn.ReLU(), kernel_size=2, padding=0), "not covered U6 a kernel of (2, 2)"),
    "strided": (_convolutions(nn.ReLU(), stride=2), "not covered U6 a stride of 2"),
    "a tap on one axis": (
        _convolutions(nn.ReLU(), kernel_size=(3, 1), padding=(1, 0)),
        "not covered U6 kernels of one tap on an axis",
    ),
    "one tap": (_convolutions(nn.ReLU(), kernel_size=1, padding=0), "not covered U6 kernels of one tap"),
    "no bias": (_convolutions(nn.ReLU(), bias=False), "not covered U6 no bias before the activation"),
    "one hidden": (
        nn.Sequential(nn.Conv2d(8, 1, 3, padding=1), nn.ReLU(), nn.Conv2d(1, 8, 1)),
        "not covered U6 1 hidden channel",
    ),
    "group norm": (_normed(nn.GroupNorm(2, 8)), "not covered U6 GroupNorm between the convolutions"),
    "instance norm": (_normed(nn.InstanceNorm2d(8)), "not covered U6 InstanceNorm2d between the convolutions"),
    "pooled": (_normed(nn.AvgPool2d(3, 1, 1)), "not covered U6 AvgPool2d inside the block"),
    "bottleneck": (bottleneck(8, 8), "not covered U6 2 activations between linear maps"),
    "convnext": (ConvNeXtBranch(8), "not covered U6 LayerNorm between the convolutions"),
    "post-activation": (Skip(post_activation(8, 8), nn.Identity(), nn.ReLU()), f"not covered U6 {LAST}"),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_convolutional_blocks(name: str) -> None:
    block, line = BLOCKS[name]
    certificate = mm.certify("heavy_ball", depth=4, block=block)
    assert line in _line(certificate, "U6")
    for vectors in ("U1", "U2"):
        text = "not covered U1, U2 they need a map of the whole state; the block is convolutional"
        assert _line(certificate, vectors) == text
    assert not any(statement.obstructed for statement in certificate.statements)


def _layer(mask: bool = False, norm: Callable[[], nn.Module] = nn.Identity, **options: Any) -> nn.Module:
    inner = Attention(8, 2, causal=mask, **options), Map(8, 16, nn.GELU())
    return WholeLayer(*(TransformerBranch(norm(), part) for part in inner))


LAYERS: dict[str, tuple[nn.Module, str]] = {
    "plain": (_layer(), "universal U7 among permutation-equivariant maps"),
    "exact": (_layer(), "equal to shallow nets of attention in the sup norm"),
    "width": (_layer(), "provided width >= d_in + d_out + 2"),
    "causal": (_layer(True), "universal U7 among causal maps"),
    "layer norm": (_layer(norm=lambda: nn.LayerNorm(8)), "up to 1/K^2 because of the norm, with 2 more channels"),
    "wider": (_layer(norm=lambda: nn.LayerNorm(8)), "provided width >= d_in + d_out + 4"),
    "rms norm": (_layer(norm=lambda: nn.RMSNorm(8)), "provided width >= d_in + d_out + 3"),
    "parallel": (ParallelLayer(Attention(8, 2), Map(8, 16, nn.ReLU())), "universal U7"),
    "rotary": (_layer(True, rotary=Rotary(4, 16)), "not covered U7 rotary positions"),
    "group norm": (_layer(norm=lambda: nn.GroupNorm(1, 8)), "not covered U7 GroupNorm inside the block"),
    "gated": (
        WholeLayer(Attention(8, 2), Map(8, 16, nn.SiLU(), gated=True)),
        "not covered U7 mul is not known as linear, nor as one function of every entry",
    ),
    "attention alone": (Attention(8, 2), "not covered U7 no two-layer map of each token"),
    "no bias": (WholeLayer(Attention(8, 2), Map(8, 16, nn.ReLU(), bias=False)), "not covered U7 no bias"),
    "norm last": (
        WholeLayer(Attention(8, 2), TransformerBranch(nn.Identity(), Map(8, 16, nn.ReLU()), normalize=nn.LayerNorm(8))),
        "not covered U7 LayerNorm after the branch",
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_attention(name: str) -> None:
    block, line = LAYERS[name]
    assert line in _line(mm.certify("heavy_ball", depth=4, block=block), "U7")


def test_a_block_that_cannot_be_looked_through_is_of_the_kind_of_its_parts() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolutions = _convolutions(nn.ReLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.convolutions(x) if x.sum() > 0 else x

    assert _line(mm.certify("heavy_ball", block=Branching()), "U6").startswith("not covered U6 torch.fx cannot trace")
    for layer in (nn.TransformerEncoderLayer(4, 1, 8), nn.Sequential(nn.TransformerEncoderLayer(4, 1, 8))):
        certificate = mm.certify("heavy_ball", block=layer)
        assert _line(certificate, "U7").startswith("not covered U7")
        assert _line(certificate, "U1").startswith("not covered U1, U2 they need a map of the whole state")


def test_maps_along_several_axes_are_no_map_of_the_whole_state() -> None:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.channels = (nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)) for _ in range(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.channels(x + self.tokens(x.transpose(1, 2)).transpose(1, 2))

    assert _line(mm.certify("heavy_ball", block=Mixer()), "U1").startswith("not covered U1, U2 they need a map of the")


def test_attention_is_told_by_what_it_is_called_and_lines_do_not_differ_between_processes() -> None:
    class Talking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn, self.map = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.map(torch.roll(self.attn(x) @ x.transpose(1, 2) @ x, 1, 0))

    line = _line(mm.certify("heavy_ball", block=Talking()), "U7")
    assert line == "not covered U7 matmul is not known as linear, nor as one function of every entry"
    rolled = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Fold(1, 1))
    assert "0x" not in str(mm.certify("heavy_ball", block=rolled))


def test_what_the_skeleton_has_to_do_with_it() -> None:
    plain, layer = _convolutions(nn.ReLU()), _layer()
    for block, name in ((plain, "U6"), (layer, "U7")):
        assert _line(mm.certify("input_injection", depth=4, block=block), name) == f"not covered {name} no pulses"
        normalized = _line(mm.certify("yurii_former(first_velocity='zero')", depth=4, block=block), name)
        assert normalized.startswith(f"not covered {name} no pulses: a part of the state is normalized")
        assert "has to contain a skip" in _line(mm.certify("heavy_ball", 4, "operator", block=block), name)
        skipping = Skip(block, nn.Identity(), nn.Identity())
        assert _line(mm.certify("heavy_ball", 4, "operator", block=skipping), name).startswith(f"universal {name}")
        assert "without its skip" in _line(mm.certify("heavy_ball", 4, block=skipping), name)
        assert "(pulses 1/2, 1/2)" in _line(mm.certify("leapfrog", depth=4, block=block), name)
    cut = mm.certify("leapfrog", depth=4, splitting="lie_trotter", block=[Attention(8, 2), Map(8, 16, nn.ReLU())])
    assert _line(cut, "U7") == "not covered U7 no pulses of the attention and the map under lie_trotter"
    assert "universal U7" in _line(mm.certify("leapfrog", depth=4, splitting="strang"), "U7")
    scaled = mm.certify("input_injection(retained=0.5, injected=1.5)", depth=4, block=plain)
    assert "consistent up to a scale" in _line(scaled, "U6")


def test_only_what_is_proved_is_called_not_universal() -> None:
    class Deaf(mm.Algorithm):
        def start(self, x: Any) -> Any:
            return x, x

        def step(self, state: Any, gradient: Any, k: int) -> Any:
            x, y = state
            return x, y - gradient(x)

        def read(self, state: Any) -> Any:
            return state[0]

    proved = {
        "no activation: affine maps only": mm.certify("heavy_ball", depth=4, block=nn.Linear(4, 4)),
        "every gain is 0": mm.certify(Deaf(), depth=4),
        "width 1 is below d_out = 2": mm.certify("heavy_ball", depth=4, width=1, d_in=1, d_out=2),
    }
    for reason, certificate in proved.items():
        assert [s for s in certificate.statements if s.obstructed and reason in s.fails]
        assert any(row[0] == "not universal" and reason in row[2] for row in certificate.rows())
        assert certificate.to_dict()["not_universal"]


# The smallest model of each family that has a skeleton, and the line that it has.
FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "preact_resnet20": ({"width": 4}, f"universal U6 among {IMAGES}"),
    "wrn28_4": ({"width": 2}, f"universal U6 among {IMAGES}"),
    "dmrnet20": ({"width": 4}, f"universal U6 among {IMAGES}"),
    "resnet20": ({"width": 4}, f"not covered U6 {LAST}"),
    "resnet50": ({}, f"not covered U6 {LAST}"),
    "resnext50_32x4d": ({}, f"not covered U6 {LAST}"),
    "cifar_resnet18": ({"width": 8}, f"not covered U6 {LAST}"),
    "vgg11": ({}, f"not covered U6 {LAST}"),
    "airbench": ({}, f"not covered U6 {LAST}"),
    "hb_net20": ({"width": 4}, "not covered U6 under the operator binding the block has to contain a skip"),
    "densenet22_12": ({}, "not covered U6 the block has no linear - activation - linear"),
    "agd_net22_12": ({}, "not covered U6 the block has no linear - activation - linear"),
    "convnext_atto": ({}, "not covered U6 LayerNorm between the convolutions"),
    "convnext_isotropic_small": ({"width": 8}, "not covered U6 LayerNorm between the convolutions"),
    "vit_tiny": ({"width": 12, "depth": 2}, "universal U7 among permutation-equivariant maps"),
    "implicit_dr20": ({"width": 4}, "not covered U6 an implicit step"),
    "gpt_nano": ({"width": 16}, "universal U7 among causal maps"),
    "llama_nano": ({"width": 16}, "not covered U7 rotary positions"),
}


def _named(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):  # nothing is run
        return mm.create_model(name, **options)


@pytest.mark.parametrize("name", FAMILIES)
def test_families_of_models(name: str) -> None:
    settings, line = FAMILIES[name]
    certificate = certify_model(_named(name, **settings))
    assert _line(certificate, line.split()[2 if line.startswith("not") else 1]).startswith(line)


def test_every_family_on_images_and_tokens_has_a_line() -> None:
    def family(name: str) -> Any:
        build = model_info(name).build
        return getattr(build, "func", build)

    with_skeleton = {
        name for name in mm.list_models() if model_info(name).binding and not model_info(name).takes_vectors
    }
    assert {family(name) for name in with_skeleton} == {family(name) for name in FAMILIES}


@pytest.mark.parametrize("splitting", ["whole", "euler", "lie_trotter", "strang"])
def test_a_layer_is_read_however_it_is_cut(splitting: str) -> None:
    model = _named("gpt_nano", splitting=splitting, width=16, algorithm="heavy_ball")
    assert _line(certify_model(model), "U7").startswith("universal U7 among causal maps: dense in the sup norm")
    silent = _named("gpt_nano", splitting=splitting, width=16, algorithm="leapfrog")
    verdict = "not covered U7 no pulses" if splitting == "lie_trotter" else "universal U7"
    assert _line(certify_model(silent), "U7").startswith(verdict)


def test_attention_and_map_of_two_oracles() -> None:
    model = _named("vit_tiny", width=12, depth=2, algorithm="linearized_admm")
    assert "universal U7 among permutation-equivariant maps" in _line(certify_model(model), "U7")


def test_blocks_of_timm() -> None:
    require_timm()
    import timm

    lines = {
        "resnet18": ("layer1.0", f"not covered U6 {LAST}"),
        "resnet50": ("layer1.1", f"not covered U6 {LAST}"),
        "resnetv2_50": ("stages.0.blocks.1", "not covered U6 2 activations between linear maps"),
        "convnext_atto": ("stages.0.blocks.0", "not covered U6 LayerNorm between the convolutions"),
        "vit_tiny_patch16_224": ("blocks.0", "universal U7 among permutation-equivariant maps"),
    }
    for name, (place, line) in lines.items():
        with torch.device("meta"):
            block = timm.create_model(name).get_submodule(place)
        for binding in ("residual", "operator"):
            certificate = mm.certify("heavy_ball", 4, binding, block=block)
            assert _line(certificate, line.split()[2 if line.startswith("not") else 1]).startswith(line), name


@pytest.mark.parametrize("at", ["blocks", "branches"])
def test_rewired_models_of_timm(at: Any) -> None:
    require_timm()
    import timm

    model = mm.rewire(timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2), "heavy_ball", at=at)
    report = str(mm.explain(model))
    assert "U7" in report
    assert _line(certify_model(model), "U7").startswith("universal U7 among permutation-equivariant maps")


def test_a_run_s_report_has_the_line() -> None:
    model = _named("preact_resnet20", width=4)
    assert "among all maps of one image size (zero padding)" in " ".join(str(mm.explain(model)).split())

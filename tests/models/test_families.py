"""ImageNet families: sizes as published, logits as timm's."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import minimand as mm
from minimand._support.torch.torchvision import require_timm
from minimand.layers.stochastic_depth import DropPath

# Parameters with 1,000 classes, as timm and torchvision list them.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "convnext_atto": 3_695_520,
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "convnext_base": 88_591_464,
    "vit_tiny": 5_717_416,
    "vit_small": 22_050_664,
    "vit_base": 86_567_656,
}
TIMM = {name: f"{name}_patch16_224" if name.startswith("vit") else name for name in PARAMETERS}


@pytest.mark.parametrize("algorithm", ["gradient_descent", "nesterov_y"])
@pytest.mark.parametrize("name", PARAMETERS)
def test_the_skeleton_adds_no_parameters(name: str, algorithm: str) -> None:
    with torch.device("meta"):
        model = mm.create_model(name, algorithm)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("binding", ["residual", "operator"])
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "resnext50_32x4d", "densenet121", "convnext_atto", "vit_tiny"]
)
def test_logits_are_those_of_timm(name: str, binding) -> None:
    timm = require_timm()
    torch.manual_seed(0)
    theirs = timm.create_model(TIMM[name]).eval()
    for p in theirs.parameters():
        if p.ndim == 1:  # scales and biases start at values that hide mistakes
            torch.nn.init.normal_(p, 0.5, 0.3)
    ours = mm.models.from_timm(mm.create_model(name, binding=binding), theirs).eval()
    x = torch.randn(1, 3, 224 if "vit" in name else 64, 224 if "vit" in name else 64)
    with torch.no_grad():
        expected = theirs(x)
        if binding == "residual" and name.startswith("resn"):
            # Without the last activation of each block it is another network.
            assert not torch.allclose(ours(x), expected)
        else:
            torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("binding", ["residual", "operator"])
@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny"])
def test_training_with_stochastic_depth_is_that_of_timm(name: str, binding) -> None:
    """The same blocks are dropped for the same samples: one draw for each, with the same probability."""
    torch.manual_seed(0)
    theirs = require_timm().create_model(TIMM[name], num_classes=5, drop_path_rate=0.6)
    for p in theirs.parameters():
        if p.ndim == 1:
            torch.nn.init.normal_(p, 0.5, 0.3)
    ours = mm.create_model(name, binding=binding, num_classes=5, drop_path=0.6)
    mm.models.from_timm(ours, theirs)
    x = torch.randn(4, 3, 224 if "vit" in name else 32, 224 if "vit" in name else 32)
    outputs = []
    with torch.no_grad():
        for model, training in ((theirs, True), (ours, True), (ours, False)):
            torch.manual_seed(1)
            outputs.append(model.train(training)(x))
    expected, trained, evaluated = outputs
    torch.testing.assert_close(trained, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert not torch.allclose(evaluated, expected, rtol=1e-2)


@pytest.mark.parametrize("binding", ["residual", "operator"])
@pytest.mark.parametrize("algorithm", ["heavy_ball(momentum=0.7)", "linearized_admm"])
def test_what_is_dropped_is_the_branch(algorithm: str, binding) -> None:
    """With every branch dropped the network is the one whose branches are 0, whatever its algorithm."""
    torch.manual_seed(0)
    model = mm.create_model("convnext_atto", algorithm, binding, drop_path=0.5)
    x = torch.randn(2, 3, 32, 32)
    drops = [m for m in model.modules() if isinstance(m, DropPath)]
    assert len(drops) == 12 * len(model.algorithm.oracles)
    assert [d.p for d in drops[:: len(model.algorithm.oracles)]] == pytest.approx([0.5 * k / 11 for k in range(12)])
    for drop in drops:
        drop.p = 1.0
    with torch.no_grad():
        dropped = model.train()(x)
        for name, p in model.named_parameters():
            if name.endswith("gamma"):
                p.zero_()
        torch.testing.assert_close(dropped, model.eval()(x))


def test_stochastic_depth_is_stored_and_cited(tmp_path: Path) -> None:
    model = mm.models.create_for("convnext_isotropic_small(width=12, drop_path=0.1)", (3, 32, 32), 5)
    model.save_pretrained(tmp_path)
    loaded = mm.UnrolledNetwork.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert [m.p for m in loaded.modules() if isinstance(m, DropPath)][-1] == 0.1
    assert "huang2016stochastic" in mm.bibliography(loaded)
    assert "huang2016stochastic" not in mm.bibliography("convnext_isotropic_small")


def test_weights_of_another_architecture_are_refused() -> None:
    theirs = require_timm().create_model("resnet18")
    model = mm.create_model("resnet34")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="resnet34 is not the architecture of ResNet: .* has the shape"):
        mm.models.from_timm(model, theirs)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="is not the architecture"):
        mm.models.from_timm(mm.create_model("resnet18", num_classes=10), theirs)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "densenet121(growth=8)",
        "agd_net121(growth=8)",
        "convnext_atto",
        "convnext_isotropic_small",
        "vit_tiny(image_size=32, patch=8)",
    ],
)
def test_every_family_is_the_same_network_step_by_step(name: str) -> None:
    torch.manual_seed(0)
    model = mm.models.create_for(name, (3, 32, 32), 5, "nesterov_y(momentum=0.4)").double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    state = model.stem(x)
    for layer in model.layers:
        state = layer(state)
    with torch.no_grad():
        torch.testing.assert_close(model.head(state), model(x))


@pytest.mark.parametrize("name", ["densenet40_12", "densenet121"])
def test_the_smallest_image_is_said(name: str) -> None:
    model = mm.create_model(name, growth=1).eval()
    least = mm.model_info(name).smallest
    assert model(torch.randn(1, 3, least, least)).shape == (1, model.info.num_classes)
    with pytest.raises(ValueError, match=f"expected at least {least} x {least}"):
        model(torch.randn(1, 3, least - 1, least - 1))
    model.info = replace(model.info, smallest=1)
    with pytest.raises(RuntimeError, match="Output size is too small"):
        model(torch.randn(1, 3, least - 1, least - 1))


def test_groups_have_to_share_the_channels() -> None:
    with pytest.raises(ValueError, match="width is 24; expected a multiple of 16: 32 groups"):
        mm.create_model("resnext50_32x4d", width=24)
    with pytest.raises(ValueError, match="depth is 3; expected at least 4, a block for each stage"):
        mm.create_model("resnet50", depth=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 7}, "patch is 7; expected a divisor of image_size = 32"),
        ({"patch": 8, "width": 100}, "width is 100; expected a multiple of heads = 3"),
    ],
)
def test_bad_sizes_of_a_transformer(settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mm.create_model("vit_tiny", image_size=32, **settings)


def test_a_transformer_says_which_images_it_takes() -> None:
    with pytest.raises(ValueError, match="images are 40 x 40; expected 32 x 32"):
        mm.create_model("vit_tiny", image_size=32, patch=8)(torch.randn(1, 3, 40, 40))

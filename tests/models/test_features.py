"""What timm's users do with a model, against timm's own and against the network step by step."""

from pathlib import Path

import pytest
import torch
from torch import nn

import minimand as mm
from minimand._support.torch.torchvision import require_timm
from minimand.networks.unrolled import Unrolled

# Ours and timm's, the number of timm's features that ours do not have (a stem's), and the side of an image.
PAIRS = [("resnet18", "resnet18", 1, 64), ("convnext_atto", "convnext_atto", 0, 64)]
PAIRS += [("vit_tiny", "vit_tiny_patch16_224", 0, 224)]

SMALL = {
    "preact_resnet20": {"width": 4},
    "wrn16_4": {"width": 4},
    "hb_net20": {"width": 4},
    "resnet50": {"width": 4},
    "convnext_atto": {},
    "convnext_isotropic_small": {"width": 12},
    "vit_tiny": {"width": 12, "depth": 3, "image_size": 32, "patch": 8},
}


def _close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize(("name", "in_timm", "stems", "side"), PAIRS)
def test_features_are_those_of_timm(name: str, in_timm: str, stems: int, side: int) -> None:
    torch.manual_seed(0)
    theirs = require_timm().create_model(in_timm, num_classes=5).eval()
    for p in theirs.parameters():
        if p.ndim == 1:  # scales and biases start at values that hide mistakes
            nn.init.normal_(p, 0.5, 0.3)
    ours = mm.models.from_timm(mm.create_model(name, num_classes=5), theirs).eval()
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        features = ours.forward_features(x)
        _close(features, theirs.forward_features(x))
        _close(ours.forward_head(features, pre_logits=True), theirs.forward_head(features, pre_logits=True))
        assert torch.equal(ours.forward_head(features), ours(x))
        for norm in (False, True):
            last, maps = ours.forward_intermediates(x, norm=norm)
            expected_last, expected = theirs.forward_intermediates(x, norm=norm)
            _close(last, expected_last)
            for y, z in zip(maps, expected[stems:], strict=True):
                _close(y, z)
    info = [(f["num_chs"], f["reduction"]) for f in theirs.feature_info[stems:]]
    assert [(f["num_chs"], f["reduction"]) for f in ours.feature_info] == info
    assert ours.num_features == theirs.num_features


@pytest.mark.parametrize("name", SMALL)
def test_a_feature_is_the_read_out_of_a_stage(name: str) -> None:
    """Step by step: what each stage leaves, or where there is one stage, what each layer leaves."""
    torch.manual_seed(0)
    model = mm.create_model(name, "nesterov_y(momentum=0.3)", **SMALL[name]).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    with torch.no_grad():
        state, reads = model.stem(x), []
        for j, layer in enumerate(model.layers):
            state = layer(state)
            reads.append(model.read(j, state))
        if len(model.stages) > 1:
            lengths = torch.tensor([len(part.layers) if isinstance(part, Unrolled) else 1 for part in model.body])
            ends = lengths.cumsum(0) - 1
            reads = [reads[end] for end, part in zip(ends, model.body, strict=True) if isinstance(part, Unrolled)]
        if name == "vit_tiny":  # the class token is no part of a map
            reads = [read[:, 1:].transpose(1, 2).reshape(2, 12, 4, 4) for read in reads]
        maps = model.forward_intermediates(x, intermediates_only=True)
        for y, read in zip(maps, reads, strict=True):
            torch.testing.assert_close(y, read)
        first, last = model.forward_intermediates(x, [0, -1], intermediates_only=True)
        assert torch.equal(first, maps[0])
        assert torch.equal(last, maps[-1])
        for y, z in zip(model.forward_intermediates(x, 2, intermediates_only=True), maps[-2:], strict=True):
            assert torch.equal(y, z)
        torch.testing.assert_close(model.forward_head(model.forward_features(x)), model(x))
    for y, f in zip(maps, model.feature_info, strict=True):
        assert tuple(y.shape) == (2, f["num_chs"], 32 // f["reduction"], 32 // f["reduction"])
        model.get_submodule(f["module"])


@pytest.mark.parametrize("name", SMALL)
def test_a_classifier_is_put_on_and_taken_off(name: str, tmp_path: Path) -> None:
    model = mm.create_model(name, "heavy_ball(momentum=Learnable(0.5, 0, 1))", num_classes=7, **SMALL[name]).eval()
    x = torch.randn(2, 3, 32, 32)
    assert model.get_classifier() is list(model.modules())[-1]
    with torch.no_grad():
        features = model.forward_head(model.forward_features(x), pre_logits=True)
        assert features.shape == (2, model.num_features)
        for classes in (0, 4):
            model.reset_classifier(classes)
            assert model.num_classes == model.config["num_classes"] == classes
            y = model(x)
            assert y.shape == (2, classes or model.num_features)
            if classes == 0:
                assert isinstance(model.get_classifier(), nn.Identity)
                torch.testing.assert_close(y, features)
            model.save_pretrained(tmp_path / str(classes))
            loaded = mm.UnrolledNetwork.from_pretrained(tmp_path / str(classes)).eval()
            assert torch.equal(loaded(x), y)
            assert loaded.config == model.config


def test_a_new_classifier_has_the_type_of_the_network() -> None:
    model = mm.create_model("mlp", in_channels=4, num_classes=0).double()
    model.reset_classifier(3)
    assert model(torch.randn(2, 4, dtype=torch.double)).shape == (2, 3)
    with pytest.raises(ValueError, match="num_classes is -1; expected an integer of at least 0"):
        model.reset_classifier(-1)
    assert model.num_classes == model.config["num_classes"] == 3


@pytest.mark.parametrize("indices", [5, (0, 3), (-4,), 0, ()])
def test_features_that_there_are_not(indices) -> None:
    model = mm.create_model("resnet20", width=4)
    with pytest.raises(ValueError, match=r"resnet20 has 3 stages: expected numbers from -3 to 2, or how many"):
        model.forward_intermediates(torch.randn(1, 3, 8, 8), indices)


def test_other_features_are_refused() -> None:
    with pytest.raises(ValueError, match="output_fmt is 'NLC'; expected 'NCHW'"):
        mm.create_model("resnet20", width=4).forward_intermediates(torch.randn(1, 3, 8, 8), output_fmt="NLC")
    with pytest.raises(ValueError, match="mlp takes vectors"):
        _ = mm.create_model("mlp").feature_info


def test_a_network_without_a_classifier_is_explained() -> None:
    assert "universal" in str(mm.explain(mm.create_model("mlp", in_channels=4, num_classes=0)))

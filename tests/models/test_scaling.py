"""Compound scaling, by the operations that it promises."""

import math

import pytest
import torch

import minimand as mm
from minimand.models.info import shared
from minimand.models.scaling import scale
from minimand.report.size import count_flops

VECTORS = ["mlp(width=256, hidden=256)", "highway(width=256)"]
IMAGES = ["preact_resnet56(width=64)", "wrn28_4", "resnet50", "resnext50_32x4d", "convnext_tiny", "vit_small"]
IMAGES += ["convnext_isotropic_small", "densenet121"]


def _flops(text: str, phi: float) -> int:
    scaled = scale(text, phi)
    shape = (64,) if scaled.image_size is None else (3, scaled.image_size, scaled.image_size)
    with torch.device("meta"):
        flops = count_flops(mm.create_model(scaled.name, in_channels=shape[0], **scaled.settings), shape)
    assert flops is not None
    return flops


@pytest.mark.parametrize("text", [*VECTORS, *IMAGES])
def test_operations_grow_as_promised(text: str) -> None:
    phi = 3
    growth = 1.2 * 1.1**2 * (1.15**2 if text in IMAGES else 1)
    exponent = math.log(_flops(text, phi) / _flops(text, 0)) / phi
    if text.startswith("densenet"):
        # Between one alpha more, of 1 x 1 convolutions that read all layers, and none, of 3 x 3 ones that do not.
        assert math.log(growth) < exponent < math.log(1.2 * growth)
    else:
        assert exponent == pytest.approx(math.log(growth), rel=0.12)


@pytest.mark.parametrize("name", [name for name in mm.list_models() if "depth" in mm.model_info(name).settings])
def test_every_model_is_scaled_and_phi_of_0_changes_nothing(name: str) -> None:
    info = mm.model_info(name)
    same = scale(name, 0)
    assert (str(same), same.settings) == (name, info.settings)
    assert same.image_size == (info.image_size if info.takes_images else None)
    larger = scale(name, 2).settings
    grown = {n for n, value in larger.items() if value != info.settings[n]}
    assert all(larger[n] > info.settings[n] for n in grown)
    assert {"depth"} < grown
    assert larger == {n: value if n in grown else info.settings[n] for n, value in larger.items()}


def test_what_is_given_is_what_is_scaled() -> None:
    assert str(scale("resnet50", 1)) == "resnet50(depth=19, width=70)"
    assert scale("resnet50", 1).image_size == 258
    assert scale("vit_tiny(patch=8)", 1).settings["patch"] == 8
    assert scale("vit_tiny", 1).image_size == scale("vit_tiny", 1).settings["image_size"] == 256
    assert str(scale("mlp(width=100)", 1, alpha=1, beta=2)) == "mlp(width=200, hidden=128)"
    assert scale("mlp", -30).settings == {"width": 4, "depth": 1, "hidden": 4}


@pytest.mark.parametrize("depths", [(1, 1, 1), (3, 4, 6, 3), (2, 2, 6, 2), (3, 3, 27, 3)])
def test_blocks_are_shared_in_proportion(depths: tuple[int, ...]) -> None:
    assert shared(sum(depths), depths) == list(depths)
    assert shared(3 * sum(depths), depths) == [3 * d for d in depths]
    for blocks in range(len(depths), 60):
        shares = shared(blocks, depths)
        assert sum(shares) == blocks
        assert min(shares) >= 1
        if blocks >= sum(depths):
            assert all(abs(n - blocks * d / sum(depths)) < 1 for n, d in zip(shares, depths, strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scale("resnet51", 1), "unknown model 'resnet51'. Did you mean 'resnet50'"),
        (lambda: scale("mlp(widht=3)", 1), "unknown setting of mlp 'widht'. Did you mean 'width'"),
        (lambda: scale("mlp", math.inf), "phi is inf"),
        (lambda: scale("mlp", 1, beta=0.5), "beta is 0.5; expected at least 1"),
    ],
)
def test_bad_input(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

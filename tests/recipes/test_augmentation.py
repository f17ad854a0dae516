import random
import sys
from typing import Any

import numpy as np
import pytest
import torch

from minimand._support.errors import MinimandError
from minimand.recipes.augmentation import Augmentation


def test_pad_and_crop_moves_each_image_by_at_most_the_padding() -> None:
    image = torch.arange(1, 37, dtype=torch.uint8).view(1, 1, 6, 6)
    batch = image.expand(200, -1, -1, -1)
    moved = Augmentation(pad=2)(batch)
    padded = torch.nn.functional.pad(image, (2,) * 4)[0, 0]
    crops = [padded[i : i + 6, j : j + 6] for i in range(5) for j in range(5)]
    corners = {next(n for n, crop in enumerate(crops) if torch.equal(crop, m[0])) for m in moved}
    assert len(corners) > 20


def test_flip_mirrors_half_of_the_images() -> None:
    batch = torch.rand(400, 1, 3, 5)
    flipped = Augmentation(flip=True)(batch)
    mirrored = sum(torch.equal(a.flip(-1), b) for a, b in zip(batch, flipped, strict=True))
    unmoved = sum(torch.equal(a, b) for a, b in zip(batch, flipped, strict=True))
    assert mirrored + unmoved == 400
    assert 150 < mirrored < 250


def test_cutout_blanks_a_square() -> None:
    holes = (Augmentation(cutout=4)(torch.ones(300, 2, 12, 12)) == 0).float()
    assert torch.equal(holes[:, 0], holes[:, 1])
    areas = holes[:, 0].sum((1, 2))
    assert areas.max() == 16
    assert areas.min() >= 4  # at a corner


def test_no_augmentation_changes_nothing() -> None:
    batch = torch.rand(3, 1, 4, 4)
    assert torch.equal(Augmentation()(batch), batch)


def test_erasing_fills_a_rectangle_and_nothing_else() -> None:
    images = torch.full((2000, 2, 60, 40), 2.0)
    erased = Augmentation(erase=0.25)(images)
    holes = (erased != 2).any(1)
    assert torch.equal(holes, holes.any(2)[:, :, None] & holes.any(1)[:, None, :])
    assert torch.equal((erased != 2).all(1), holes)
    hit = holes.any((1, 2))
    assert float(hit.float().mean()) == pytest.approx(0.25, abs=0.04)
    height, width = (holes[hit].any(d).sum(1) for d in (2, 1))
    area = (height * width) / (60 * 40)
    assert 0.01 < area.min() < 0.04
    assert 0.28 < area.max() < 0.35
    large = area > 0.1  # where a pixel more or less says little
    assert (height / width)[large].min() > 0.27
    assert (height / width)[large].max() < 3.7
    noise = erased[erased != 2]
    assert noise.min() >= 0
    assert noise.max() < 1
    assert noise.std() == pytest.approx(12**-0.5, rel=0.01)


def test_erasing_bytes_fills_in_bytes() -> None:
    erased = Augmentation(erase=1)(torch.zeros(50, 3, 32, 32, dtype=torch.uint8))
    assert erased.dtype == torch.uint8
    assert erased.max() == 255


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_randaugment_changes_each_image_on_its_own(channels: int, dtype: torch.dtype) -> None:
    """By torch's random numbers alone, and keeps what images are."""
    image = torch.randint(256, (1, channels, 12, 10), dtype=torch.uint8)
    batch = (image if dtype == torch.uint8 else image / 255).expand(60, -1, -1, -1)
    draws = []
    for seed in (0, 0, 1):
        random.seed(len(draws))
        np.random.seed(len(draws))
        torch.manual_seed(seed)
        draws.append(Augmentation(randaugment=9)(batch))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    changed = draws[0]
    assert (changed.shape, changed.dtype) == (batch.shape, dtype)
    assert changed.max() <= (255 if dtype == torch.uint8 else 1)
    assert len({tuple(one.flatten().tolist()) for one in changed}) > 25
    assert 8 < sum(torch.equal(a, b) for a, b in zip(changed, batch, strict=True)) < 40


def test_the_magnitude_of_randaugment_is_that_of_timm() -> None:
    """Of all operations brightness alone changes plain grey: to 1 +- 0.9 m / 10 of it, with m around the magnitude."""
    batch = torch.full((800, 1, 9, 9), 0.5)
    change = (Augmentation(randaugment=6)(batch)[:, 0, 4, 4] / 0.5 - 1).abs()
    changed = change[change > 0.1]  # but for the steps of posterizing
    assert float(changed.median()) == pytest.approx(0.54, abs=0.03)
    assert 0.02 < float(changed.quantile(0.75) - changed.quantile(0.25)) < 0.12
    # One of 14 operations, drawn twice, each time with probability 1/2.
    assert len(changed) / len(batch) == pytest.approx(1 - (1 - 1 / 28) ** 2, abs=0.035)


def test_randaugment_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="randaugment is 9, but the images have 2 channels; expected 1 or 3"):
        Augmentation(randaugment=9)(torch.rand(3, 2, 4, 4))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ModuleNotFoundError, match=r"needed for RandAugment .* pip install 'minimand\[vision\]'"):
        Augmentation(randaugment=9)(torch.rand(3, 3, 4, 4))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"erase": 2}, "Augmentation.erase is 2; expected 0 to 1"),
        ({"randaugment": 11}, "Augmentation.randaugment is 11; expected 0 to 10"),
        ({"randaugment": "rand-m9"}, "Augmentation.randaugment is 'rand-m9'; expected 0 to 10"),
        ({"pad": -1}, "Augmentation.pad is -1; expected an integer, at least 0"),
        ({"cutout": 2.5}, "Augmentation.cutout is 2.5; expected an integer, at least 0"),
    ],
)
def test_bad_augmentations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**values)


@pytest.mark.parametrize("floats", [False, True])
def test_alternating_flips_show_the_mirror_of_the_epoch_before(floats: bool) -> None:
    batch = torch.randint(256, (400, 3, 5, 6), dtype=torch.uint8)
    batch = batch / 255 if floats else batch
    augment = Augmentation(flip="alternating")
    first, second, third = (augment(batch, epoch, seed=3) for epoch in range(3))
    assert torch.equal(first.flip(-1), second)
    assert torch.equal(first, third)
    flipped = (first != batch).flatten(1).any(1)
    assert 150 < int(flipped.sum()) < 250
    other = (augment(batch, 0, seed=4) != batch).flatten(1).any(1)
    assert 100 < int((other != flipped).sum()) < 300
    order = torch.randperm(400)  # an image is told by its content, in any order
    assert torch.equal(augment(batch[order], 1, seed=3), second[order])


def test_padding_reflects_the_edges() -> None:
    image = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6).expand(100, -1, -1, -1)
    moved = Augmentation(pad=1, padding="reflect")(image)
    padded = torch.nn.functional.pad(image[:1].float(), (1,) * 4, mode="reflect")[0, 0]
    crops = [padded[i : i + 6, j : j + 6] for i in range(3) for j in range(3)]
    assert all(any(torch.equal(crop, m[0].float()) for crop in crops) for m in moved)
    with pytest.raises(MinimandError, match="pad is 6"):
        Augmentation(pad=6, padding="reflect")(image)

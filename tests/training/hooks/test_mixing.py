from typing import Literal

import pytest
import torch
from hypothesis import given, strategies as st

import minimand as mm
from minimand.training.hooks.mixing import Mixing
from minimand.training.loop.losses import as_loss

seeds = st.integers(0, 2**31)


@given(seeds, st.floats(0.05, 5), st.sampled_from([(7, 3), (4, 2, 3, 5)]))
def test_mixup_mixes_samples_by_the_shares_of_their_targets(seed: int, alpha: float, shape: tuple[int, ...]) -> None:
    """Where each sample is a class of its own, the targets are the weights of the average."""
    torch.manual_seed(seed)
    n = shape[0]
    x = torch.randn(shape)
    mixed, targets = Mixing(n, alpha, 0)(x, torch.arange(n))
    assert targets.min() >= 0
    torch.testing.assert_close(targets.sum(1), torch.ones(n))
    torch.testing.assert_close(mixed.flatten(1), targets @ x.flatten(1))
    assert (targets > 0).sum(1).max() <= 2


@given(seeds, st.floats(0.05, 5))
def test_cutmix_shows_as_much_of_an_image_as_its_target_says(seed: int, alpha: float) -> None:
    torch.manual_seed(seed)
    n, height, width = 5, 9, 14
    x = torch.arange(n).float()[:, None, None, None].expand(n, 2, height, width)
    mixed, targets = Mixing(n, 0, alpha)(x, torch.arange(n))
    for image, target in zip(mixed, targets, strict=True):
        assert torch.equal(image[0], image[1])
        counts = torch.bincount(image[0].long().flatten(), minlength=n)
        torch.testing.assert_close(counts / (height * width), target)
        assert (counts > 0).sum() <= 2
    own = mixed[:, 0] == x[:, 0]
    assert torch.equal(own, own.any(2)[:, :, None] & own.any(1)[:, None, :])  # a rectangle


def test_each_batch_has_one_of_the_two_with_equal_probability() -> None:
    x = torch.arange(4).float()[:, None, None, None].expand(4, 1, 16, 16)
    cut = [float(Mixing(4, 1.0, 1.0)(x, torch.arange(4))[0].frac().abs().sum()) == 0 for _ in range(400)]
    assert 150 < sum(cut) < 250


@pytest.mark.parametrize("alpha", [0.2, 0.8, 5.0])
def test_shares_are_drawn_from_a_beta_distribution(alpha: float) -> None:
    mixing = Mixing(2, alpha, 0)
    shares = torch.stack([mixing(torch.zeros(2, 1), torch.arange(2))[1][0, 0] for _ in range(2000)])
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.04)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_labels_are_smoothed_before_they_are_mixed() -> None:
    data = mm.load_data("digits")
    outputs, y, other, share, smoothing = torch.randn(6, 10), torch.arange(6), torch.arange(6).flip(0), 0.3, 0.1
    smooth = torch.full((6, 10), smoothing / 10)
    first, second = (smooth.scatter(1, c[:, None], 1 - smoothing + smoothing / 10) for c in (y, other))
    expected = -((share * first + (1 - share) * second) * outputs.log_softmax(1)).sum(1).mean()
    mixed = share * torch.eye(10)[y] + (1 - share) * torch.eye(10)[other]
    recipe = mm.Recipe(label_smoothing=smoothing, mixup=0.8)
    torch.testing.assert_close(as_loss(None, data, recipe)(outputs, mixed), expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_on_mixed_samples(precision: Literal["fp32", "bf16"]) -> None:
    """It learns; a mixed sample has no right answer, and what is tested is not mixed."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    recipe = mm.Recipe(8, 64, mm.AdamW(lr=1e-2), mm.Cosine(), mixup=0.8, cutmix=1.0, precision=precision)
    result = mm.fit(model, "digits", recipe=recipe)
    assert result.test_accuracy is not None
    assert result.test_loss is not None
    assert result.test_accuracy > 0.8
    assert {record["train_accuracy"] for record in result.history} == {None}
    assert result.history[-1]["train_loss"] > 1.5 * result.test_loss


@pytest.mark.parametrize(("part", "recipe"), [("mixup", mm.Recipe(1, mixup=0.5)), ("cutmix", mm.Recipe(1, cutmix=0.5))])
def test_what_cannot_be_mixed_is_refused(part: str, recipe: mm.Recipe) -> None:
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=rf"Recipe.{part} is 0.5, but the loss is 'mse'; .* or {part}=0"):
        mm.fit(model, "nested_rings", recipe=recipe, loss="mse")
    with pytest.raises(ValueError, match=rf"Recipe.{part} is 0.5, but the loss is a function of your own"):
        mm.fit(model, "nested_rings", recipe=recipe, loss=torch.nn.functional.cross_entropy)
    with pytest.raises(ValueError, match=rf"Recipe.{part} is 0.5, but the loss is 'mse'"):
        mm.fit(torch.nn.Linear(1, 1), "telgarsky", recipe=recipe)
    if part == "cutmix":
        with pytest.raises(ValueError, match=r"a sample of nested_rings has the shape \(2,\); expected images"):
            mm.fit(model, "nested_rings", recipe=recipe)

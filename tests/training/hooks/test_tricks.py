"""Whitening, lookahead and views of test images, the tricks of airbench."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minimand as mm
from minimand._support.errors import MinimandError
from minimand.training.loop.events import Event, StepDone


def images(n: int = 160, side: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(256, (n, 1, side, side), dtype=torch.uint8, generator=generator)
    return inputs, torch.randint(10, (n,), generator=generator)


def trained(folder: Path, stops: tuple[int, ...] = ()) -> dict[str, Tensor]:
    for stop in (*stops, None):

        def watch(event: Event, stop: int | None = stop) -> None:
            if isinstance(event, StepDone) and event.step == stop:
                raise KeyboardInterrupt

        torch.manual_seed(0)
        model = mm.create_model("airbench(width=4)", in_channels=1)
        recipe = mm.recipe("airbench", epochs=3, batch_size=32, whiten=2)
        try:
            mm.fit(model, (images(), images(40)), recipe=recipe, run=folder, callbacks=[watch], checkpoint_every=0)
        except KeyboardInterrupt:
            continue
        return model.state_dict()
    raise AssertionError


def test_a_run_of_all_tricks_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole, parts = trained(tmp_path / "whole"), trained(tmp_path / "parts", (3, 12))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_first_layer_whitens_patches_and_stays() -> None:
    data = mm.data.as_data((images(600), images(40)))
    model = mm.create_model("airbench(width=4)", in_channels=1)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    biases = []

    def watch(event: Event) -> None:
        if isinstance(event, StepDone):
            biases.append(next(p for p in first.parameters() if p.ndim == 1).detach().clone())

    recipe = mm.recipe("airbench", epochs=3, batch_size=150, whiten=1, lookahead=0.0)
    mm.fit(model, data, recipe=recipe, callbacks=[watch], progress=False)
    patches = F.unfold(data.prepare(images(600)[0]), 2).movedim(1, -1).reshape(-1, 4)
    white = patches @ first.weight.detach()[:4].flatten(1).T
    torch.testing.assert_close(white.T @ white / len(white), torch.eye(4), atol=0.01, rtol=0)
    assert torch.equal(first.weight[:4], -first.weight[4:])
    assert not torch.equal(biases[0], biases[3])
    assert all(torch.equal(bias, biases[3]) for bias in biases[4:])
    assert first.weight.requires_grad  # as it was


@pytest.mark.parametrize(
    ("model", "pattern"),
    [
        ("resnet20(width=8)", "18 filters"),
        ("mlp(width=8)", "is a Linear"),
        pytest.param("vgg11", "18 filters", marks=pytest.mark.soak),
    ],
)
def test_a_first_layer_that_cannot_whiten_is_named(model: str, pattern: str) -> None:
    network = mm.create_model(model, in_channels=64 if model.startswith("mlp") else 1)
    with pytest.raises(MinimandError, match=pattern):
        mm.initialize(network, "whiten", batch=torch.randn(4, 1, 32, 32))


def test_lookahead_averages_as_it_says() -> None:
    """Weights of one number by plain SGD at a constant rate, beside the recurrence."""
    model = nn.Linear(1, 1, bias=False)
    x = torch.ones(20, 1)
    recipe = mm.Recipe(12, 20, mm.SGD(0.1, 0.0, 0.0), mm.StepDecay(()), lookahead=0.9)
    w = average = float(model.weight.detach())
    for step in range(1, 13):
        w -= 0.1 * 2 * (w - 3)
        if step % 5 == 0:
            average += (1 - 0.9**5 * (step / 12) ** 3) * (w - average)
            w = average
    mm.fit(model, ((x, 3 * x), (x, 3 * x)), recipe=recipe, progress=False)
    assert float(model.weight.detach()) == pytest.approx(average, rel=1e-5)


@pytest.mark.parametrize("steps", [4, 5])
def test_a_training_too_short_to_be_averaged_ends_with_its_weights(steps: int) -> None:
    model, x = nn.Linear(1, 1, bias=False), torch.ones(20, 1)
    recipe = mm.Recipe(steps, 20, mm.SGD(0.1, 0.0, 0.0), mm.StepDecay(()), lookahead=0.9)
    expected = 3 + 0.8**steps * (float(model.weight.detach()) - 3)
    mm.fit(model, ((x, 3 * x), (x, 3 * x)), recipe=recipe, progress=False)
    assert float(model.weight.detach()) == pytest.approx(expected, rel=1e-5)


def test_lookahead_takes_complex_weights_with_it() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turn, self.read = nn.Linear(144, 4, dtype=torch.complex64), nn.Linear(4, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.read(self.turn(x.flatten(1).to(torch.complex64)).abs())

    model, at_five = Turned(), dict[str, Tensor]()

    def note(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 5:
            at_five.update({name: parameter.detach().clone() for name, parameter in model.named_parameters()})

    recipe = mm.Recipe(2, 40, mm.SGD(0.1), lookahead=0.95)  # eight steps, the last of which goes back to the fifth
    mm.fit(model, (images(), images(100)), recipe=recipe, callbacks=[note], progress=False)
    assert all(torch.equal(parameter, at_five[name]) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("views", [1, 2, 6])
def test_views_are_averaged(views) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    x, y = torch.rand(30, 1, 4, 4), torch.randint(2, (30,))
    padded = F.pad(x, (1,) * 4, mode="reflect")
    pictures = [x, padded[..., :-2, :-2], padded[..., 2:, 2:]]
    with torch.no_grad():
        plain, *shifted = [(model(p) + model(p.flip(-1))) / 2 for p in pictures]
        logits = {1: model(x), 2: plain, 6: plain / 2 + sum(shifted) / 4}[views]
    expected = float(F.cross_entropy(logits, y))
    assert mm.evaluate(model, ((x, y), (x, y)), test_views=views).loss == pytest.approx(expected, rel=1e-5)


def test_only_the_last_epoch_is_judged_by_several_views(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 10))
    recipe = mm.Recipe(3, 160, mm.SGD(1e-30), test_views=6)
    result = mm.fit(model, (images(), images(100)), recipe=recipe, run=tmp_path, progress=False)
    losses = [record["test_loss"] for record in result.history]
    assert losses[0] == pytest.approx(losses[1])
    assert losses[1] != pytest.approx(losses[2])
    with pytest.raises(MinimandError, match="test_views is 6"):
        mm.fit(mm.create_model("mlp", in_channels=2), "nested_rings", recipe=recipe)
    thin = [(x[:, :, :1], y) for x, y in (images(), images(100))]
    with pytest.raises(MinimandError, match=r"test_views is 6, but the images of given are 1 x \d+"):
        mm.fit(nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), thin, recipe=recipe)
    with pytest.raises(MinimandError, match="test_views is 3"):
        mm.evaluate(model, (images(), images(100)), test_views=3)  # pyright: ignore[reportArgumentType]

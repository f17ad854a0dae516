"""Layerwise compression: which filters go, what is trained when, and what is left."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.analysis.compress import compress, taylor_importance
from minimand.training.loop.events import EpochDone, Event, Started

QUICK = mm.Recipe(2, 64, mm.SGD(0.05), mm.StepDecay(at=()), augmentation=mm.Augmentation())


def digits(samples: int = 400) -> mm.Data:
    data = mm.load_data("digits")
    train, test = cast(Any, data.train), cast(Any, data.test)
    return replace(
        data,
        train=type(train)(train.inputs[:samples], train.targets[:samples]),
        test=type(test)(test.inputs[:200], test.targets[:200]),
        loaded={},
    )


def network(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), activation()),
        nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 6, 3, padding=1), activation(), nn.PixelUnshuffle(2)),
        nn.Sequential(nn.Conv2d(24, 6, 1), nn.BatchNorm2d(6), activation()),
        *(nn.Flatten(), nn.Linear(24, 10)),
    )


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("place", [(0, 0), (1, 1), (2, 0)])
def test_importance_is_the_derivative_of_the_loss_by_a_gate_on_each_map(
    activation: type[nn.Module], place: tuple[int, int]
) -> None:
    """Against finite differences of the loss of each sample, in double precision."""
    model, data = network(activation).double().eval(), digits(12)
    block = cast(nn.Sequential, model[place[0]])
    layer = block[place[1]]
    last = next(module for module in block if isinstance(module, activation))
    x, y = data.prepare(cast(Any, data.train).inputs).double(), cast(Any, data.train).targets
    prepared = mm.Data("d", type(data.train)(x, y), data.test, data.shape, classes=data.classes)  # type: ignore[call-arg]
    object.__setattr__(prepared, "prepare", lambda inputs: inputs)
    for parameter in model.parameters():
        parameter.requires_grad_()
    importance = taylor_importance(model, layer, prepared)
    scale, sizes = torch.ones(len(importance), dtype=torch.double), []

    def gate(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        sizes.append(output.shape[2] * output.shape[3])
        return output * scale[:, None, None]

    last.register_forward_hook(gate)
    step = 1e-6
    for k in range(len(importance)):
        losses = []
        for change in (step, -step):
            scale[k] = 1 + change
            losses.append(nn.functional.cross_entropy(model(x), y, reduction="none").detach())
        scale[k] = 1
        slope = (losses[0] - losses[1]) / (2 * step) / sizes[0]
        assert importance[k].item() == pytest.approx(slope.abs().mean().item(), rel=1e-4, abs=1e-9)


def test_filters_that_give_nothing_matter_nothing_and_go_first() -> None:
    model, data = network(), digits(100)
    norm = cast(nn.BatchNorm2d, cast(nn.Sequential, model[0])[1])
    with torch.no_grad():
        norm.weight[[2, 5]] = 0
        norm.bias[[2, 5]] = 0
    importance = taylor_importance(model, cast(nn.Sequential, model[0])[0], data)
    assert importance[[2, 5]].tolist() == [0, 0]
    assert sorted(importance.argsort()[:2].tolist()) == [2, 5]
    before = mm.evaluate(model, data)
    mm.remove_filters(model, {"0.0": [i for i in range(8) if i not in (2, 5)]})
    after = mm.evaluate(model, data)
    assert after.loss == pytest.approx(before.loss, rel=1e-5)
    assert after.confusion == before.confusion


def test_layers_shrink_one_after_another_and_only_classifiers_move_when_they_are_tuned() -> None:
    model, data = network(), digits()
    shapes: list[list[int]] = []
    moved: list[set[str]] = []
    before: dict[str, torch.Tensor] = {}

    def look(event: Event) -> None:
        if not isinstance(event, Started | EpochDone):
            return
        now = {key: value.clone() for key, value in model.state_dict().items()}
        if isinstance(event, Started):
            shapes.append([cast(nn.Conv2d, model.get_submodule(n)).out_channels for n in ("0.0", "1.1", "2.0")])
        if isinstance(event, EpochDone) and before:
            same = {key for key in now if now[key].shape == before[key].shape}
            moved.append({key.split(".")[0] for key in same if not torch.equal(now[key], before[key])})
        before.update(now)

    compression = compress(model, data, 0.5, mm.Layerwise(2), QUICK, tuning_epochs=1, callbacks=[look])
    assert shapes == [[8, 6, 6], [4, 6, 6], [4, 6, 6], [4, 3, 6], [4, 3, 6], [4, 3, 3]]
    # Two epochs of a layer, one of its classifier, which stands outside but for the last.
    assert moved == [{"0"}, {"0"}, set(), {"1"}, {"1"}, set(), {"2", "4"}, {"2", "4"}, {"4"}]
    assert [len(layer.kept) for layer in compression.layers] == [4, 3, 3]
    assert compression.parameters[1] == sum(p.numel() for p in model.parameters()) < compression.parameters[0]
    assert compression.test_accuracy == mm.evaluate(model, data).accuracy
    assert compression.test_accuracy == compression.layers[-1].tuned
    assert f"{compression.parameters[1]:,} of {compression.parameters[0]:,} parameters" in str(compression)
    assert compression.to_dict()["layers"][1]["kept"] == compression.layers[1].kept


def test_what_is_left_is_loaded_into_a_new_network(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model, data = network(), digits()
    compression = compress(model, data, recipe=QUICK)
    save_file(model.state_dict(), tmp_path / "narrow.safetensors")
    narrow = mm.remove_filters(network(), compression.kept)
    narrow.load_state_dict(load_file(tmp_path / "narrow.safetensors"))
    assert mm.evaluate(narrow, data) == mm.evaluate(model, data)
    result = mm.fit(narrow, data, recipe=QUICK)  # an ordinary network: it can be trained on
    assert result.history


def test_a_compression_that_was_interrupted_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    data = digits()
    whole = network()
    compress(whole, data, recipe=QUICK)
    trainings = 0

    def stop(event: Event) -> None:
        nonlocal trainings
        trainings += isinstance(event, Started)
        if trainings == 4 and isinstance(event, EpochDone):
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        compress(network(), data, recipe=QUICK, run=tmp_path / "run", callbacks=[stop])
    again = network()
    steps: list[tuple[int, int]] = []
    compress(
        again,
        data,
        recipe=QUICK,
        run=tmp_path / "run",
        callbacks=[lambda event: steps.append((event.done, event.steps)) if isinstance(event, Started) else None],
    )
    assert [step == all_steps for step, all_steps in steps] == [True, True, True, False, False, False]
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.convolution(x)


def test_what_cannot_be_compressed_is_refused_before_anything_is_trained() -> None:
    data = digits(64)
    sums = nn.Sequential(nn.Conv2d(1, 8, 3), Residual(), nn.Flatten(), nn.Linear(288, 10))
    model = mm.create_model("resnet20(depth=3, width=4)", in_channels=1)
    cached = mm.Layerwise(cache="disk")
    x, y = torch.randn(8, 1, 8, 8), torch.randn(8)
    cases: list[tuple[str, Any]] = [
        ("filters of 0 cannot be removed: of the Residual that follows", lambda: compress(sums, data, recipe=QUICK)),
        ("UnrolledNetwork has no layer whose filters", lambda: compress(model, data)),
        ("keep is 1.5; expected 0 to 1", lambda: compress(network(), data, 1.5)),
        ("tuning_epochs is 0", lambda: compress(network(), data, tuning_epochs=0)),
        (
            "expected an mm.Layerwise with cache='off'",
            lambda: compress(network(), data, method=cached),
        ),
        (
            "'auglocal', whose copies keep the channels .* such as 'cnn'",
            lambda: compress(network(), data, method=mm.Layerwise(auxiliary="auglocal")),
        ),
        ("is a regression", lambda: compress(network(), ((x, y), (x, y)))),
        ("layer is a Conv2d; expected .* of the module", lambda: taylor_importance(sums, nn.Conv2d(1, 8, 3), data)),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="model is str; expected a module"):
        compress(cast(Any, "resnet20"), data)


def test_normalizations_of_every_block_learn_but_those_that_are_frozen() -> None:
    def block(a: int, b: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())

    net = nn.Sequential(block(1, 4), block(4, 4), block(4, 4), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 10))
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    norms[1].eval()
    mm.compress(net, "digits", keep=1.0, recipe=mm.Recipe(epochs=1, optimizer=mm.SGD(0.05)), tuning_epochs=1)
    steps = [int(n.num_batches_tracked or 0) for n in net.modules() if isinstance(n, nn.BatchNorm2d)]
    assert [count > 0 for count in steps] == [True, False, True]

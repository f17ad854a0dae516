"""Plain sequences as named models: the networks that their functions give, with what runs and reports need."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.experiments.reopen import load_run, used_by
from minimand.layers.thresholds import QuantizedReLU
from minimand.models.named import PlainNetwork
from minimand.models.registry import create_for, model_from_config
from minimand.recipes.recipe import Recipe

SMALL: dict[str, dict[str, Any]] = {
    "alexnet_dorefa": {"width": 12},
    "convnet4": {"width": 4},
    "convnet8": {"width": 12},
    "dgl_cifar": {"width": 4, "head": "linear"},
    "equilibrium_cifar": {"width": 8, "gradient": "phantom"},
    "greedy_cifar": {"k": 2, "width": 4, "head_width": 8},
    "greedy_imagenet": {"k": 2, "width": 2, "head_width": None},
}


def _same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(map(torch.equal, ours.values(), theirs.values()))


def test_these_are_all_the_plain_sequences() -> None:
    assert {name for name in mm.list_models() if mm.model_info(name).binding is None} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_named_sequence_is_that_of_its_function(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mm.create_model(name, num_classes=5, **SMALL[name])
    torch.manual_seed(0)
    expected = getattr(mm.models, name)(num_classes=5, **SMALL[name])
    assert isinstance(model, PlainNetwork)
    assert _same(model, expected)
    assert model.config == {"model": name, "num_classes": 5, "in_channels": 3, **SMALL[name]} | model.config
    torch.manual_seed(0)
    assert _same(model_from_config(model.config), expected)
    assert mm.bibliography(model) == mm.bibliography(name) != ""
    model.save_pretrained(tmp_path)
    stored = PlainNetwork.from_pretrained(tmp_path)
    assert _same(stored, model)
    assert stored.config == model.config


def test_a_part_of_a_named_sequence_is_a_plain_one() -> None:
    model = cast(PlainNetwork, mm.create_model("convnet4", width=4))
    assert type(model[1:3]) is nn.Sequential
    assert list(model[1:3]) == [model[1], model[2]]


def test_thresholds_weights_and_normalizations_go_with_the_name() -> None:
    changes = {"activation": "quantized_relu(levels=4)", "weight_bits": 2, "normalization": ["group(groups=4)"]}
    model = mm.create_model("convnet8(width=12)", **changes)
    assert sum(isinstance(module, QuantizedReLU) for module in model.modules()) == 7
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert {name: model.config[name] for name in changes} == changes
    assert model_from_config(model.config).config == model.config


def test_a_run_of_a_named_sequence_can_be_opened_again(tmp_path: Path) -> None:
    images = torch.rand(4, 1, 8, 8)
    folder = tmp_path / "run"
    model = create_for("greedy_cifar(k=1, width=2)", (1, 8, 8), 10)
    result = mm.fit(model, "digits", method=mm.Layerwise(), recipe=Recipe(epochs=1, batch_size=256), run=str(folder))
    again = load_run(folder)
    assert _same(again.model, result.model)
    torch.testing.assert_close(again.model.eval()(images), result.model.eval()(images))
    assert used_by(folder)[0] == "greedy_cifar"
    page = (folder / "report.html").read_text()
    assert "greedy_cifar on digits" in page
    assert "belilovsky2019greedy" in page
    with pytest.raises(ValueError, match="but .* is a run of 'greedy_cifar'"):
        load_run(folder, algorithm="heavy_ball")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mm.create_model("convnet8", "heavy_ball"), "algorithm is .* convnet8 .* has no skeleton"),
        (lambda: mm.create_model("convnet8", binding="residual"), "binding is 'residual', but .* has no skeleton"),
        (lambda: create_for("convnet8", (3, 32, 32), 5, "heavy_ball"), "algorithm is .* has no skeleton"),
        (lambda: mm.create_model("apg2_convnet8"), "'apg2_convnet8' names an algorithm, but convnet8 .* no skeleton"),
        (lambda: mm.create_model("convnet8", num_classes=0), "num_classes is 0; expected at least 1"),
        (lambda: mm.create_model("dgl_cifar", head="mpl"), "head is 'mpl'; expected one of 'linear', 'cnn', 'mlp'"),
        (lambda: mm.create_model("greedy_cifar", k=4), "k is 4; expected 1, 2 or 3, as published"),
        (lambda: mm.create_model("greedy_cifar", k=True), "k is True; expected an integer"),
        (lambda: mm.create_model("greedy_cifar", head_width=0), "head_width is 0; expected an integer of at least 1"),
        (lambda: mm.create_model("convnet8", width=None), "width is None; expected an integer"),
        (lambda: mm.create_model("convnet8", depth=3), "unknown setting of convnet8 'depth'"),
        (lambda: create_for("convnet8", (3,), 2), "convnet8 takes images"),
        (lambda: create_for("convnet8", (1, 8, 8), 2), r"images of at least 32 x 32, .* the shape \(1, 8, 8\)"),
        (lambda: PlainNetwork("mlp"), "mlp runs an algorithm"),
        (lambda: mm.UnrolledNetwork("convnet8"), "convnet8 .* has no skeleton; mm.create_model makes it"),
        (lambda: mm.models.scale("convnet8", 1), "convnet8 has a fixed number of layers"),
    ],
)
def test_what_a_plain_sequence_does_not_take(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

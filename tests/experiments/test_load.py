"""Runs are opened again with their trained model, whatever it was, and predict."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.data import Arrays
from minimand.models import create_for
from minimand.networks import skeletons
from minimand.training import RunError

FILE = """
from torch import nn
class Net(nn.Module):
    def __init__(self, num_classes, width=4):
        super().__init__()
        self.blocks = nn.Sequential(*[nn.Sequential(nn.Linear(2, 2), nn.Tanh()) for _ in range(3)])
        self.wide = nn.Linear(2, width)
        self.head = nn.Linear(width, num_classes)
    def forward(self, x):
        return self.head(self.wide(self.blocks(x)))
def named(algorithm=None):
    return Net(2, 8)
module = Net(2)
"""


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def _rings() -> mm.Data:
    return mm.load_data("nested_rings", samples=100)


def _inputs(data: mm.Data) -> Tensor:
    return cast(Arrays, data.test).inputs


def _samples(n: int = 6) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0))


KINDS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], dict[str, Any]]] = {
    "named": (lambda: mm.create_model("mlp(width=4)", in_channels=2, num_classes=2), {}, {}),
    "plain sequence": (lambda: nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), {}, {"model": "given"}),
    "own": (Own, {}, {"model": Own}),
    "rewired": (lambda: mm.rewire(_deep(), "heavy_ball"), {}, {"model": lambda: _deep()}),
    "rewired in part": (
        lambda: mm.rewire(_deep(), "heavy_ball", exclude="0.0", memory="checkpoint"),
        {},
        {"model": lambda: _deep()},
    ),
    "rewired branches": (
        lambda: mm.rewire(
            _former(), "heavy_ball(momentum=Learnable(0.5, 0, 1))", at="branches", memory="reversible", exact=True
        ),
        {},
        {"model": lambda: _former()},
    ),
    "rewired by example": (
        lambda: mm.rewire(_apart(), "heavy_ball", example=torch.ones(3, 2), memory="reversible"),
        {},
        {"model": lambda: _apart()},
    ),
    "rewired for its data": (
        lambda: mm.models.create_for(_apart, (2,), 2, "heavy_ball"),
        {},
        {"model": lambda: _apart(), "algorithm": "heavy_ball"},
    ),
    "averaged": (Own, {"recipe": mm.Recipe(2, 20, ema=0.9)}, {"model": Own}),
    "stopped": (Own, {"recipe": mm.Recipe(3, 20, mm.SGD(3.0), validation=0.2, early_stopping=1)}, {"model": Own}),
    "layerwise": (lambda: mm.create_model("mlp(width=4)", in_channels=2, num_classes=2), {"method": "layerwise"}, {}),
}


def _deep() -> nn.Sequential:
    return nn.Sequential(nn.Sequential(*[nn.Sequential(nn.Linear(2, 2)) for _ in range(3)]), nn.Linear(2, 2))


def _apart() -> nn.Sequential:
    """Blocks that run one after another, in three containers."""
    return nn.Sequential(*[nn.Sequential(nn.Sequential(nn.Linear(2, 2))) for _ in range(3)], nn.Linear(2, 2))


def _former() -> nn.Sequential:
    layer = nn.TransformerEncoderLayer(4, 2, 4, 0.0, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (1, 4)), encoder, nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_run_is_what_fit_returned(kind: str, tmp_path: Path) -> None:
    make, options, _ = KINDS[kind]
    again: dict[str, Any] = dict(KINDS[kind][2])
    options = {"recipe": mm.Recipe(2, 20), **options}
    result = mm.fit(make(), _rings(), run=tmp_path / "run", progress=False, **options)
    if again.get("model") == "given":
        again["model"] = make()
    run = mm.load(tmp_path / "run", **again)
    torch.testing.assert_close(run.model.eval()(_samples()), result.model.eval()(_samples()), rtol=0, atol=0)
    own, wanted = ([(s.source.memory, s.source.exact) for s in skeletons(m)] for m in (run.model, result.model))
    assert own == wanted
    assert run.classes == result.data.classes == ("inner", "outer")
    assert run.evaluate().loss == pytest.approx(result.test_loss, rel=1e-6)
    assert "\n" not in repr(run)


def test_predictions_agree_with_the_evaluation_whatever_names_the_model(tmp_path: Path) -> None:
    data = _rings()
    model = mm.create_model("mlp(width=8)", in_channels=2, num_classes=2)
    result = mm.fit(model, data, recipe=mm.Recipe(5, 20), run=tmp_path / "run", progress=False)
    inputs, targets = _inputs(data), cast(Arrays, data.test).targets
    for name in (result, tmp_path / "run", mm.load(tmp_path / "run")):
        predictions = mm.predict(name, inputs)
        answers = torch.tensor([data.classes.index(label) for label in predictions.labels])
        assert float((answers == targets).float().mean()) == pytest.approx(result.test_accuracy)
        assert predictions.probabilities is not None
        torch.testing.assert_close(predictions.probabilities.sum(1), torch.ones(len(inputs)))
    bare = mm.predict(model, data.prepare(inputs[:3]))
    torch.testing.assert_close(bare.outputs, mm.predict(result, inputs[:3]).outputs)
    assert mm.predict(model, inputs[:3], data=data).labels == mm.predict(result, inputs[:3]).labels
    assert mm.predict(result, inputs[0]).names == ("0",)
    assert mm.predict(result, inputs[:2].tolist()).labels == mm.predict(result, inputs[:2]).labels


def test_a_file_names_the_model_again_and_a_folder_never_does(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FILE)
    path = f"{tmp_path}/net.py"
    model = create_for(f"{path}:Net(width=6)", (2,), 2)
    mm.fit(model, _rings(), recipe=mm.Recipe(1, 20), run=tmp_path / "run", progress=False)
    with pytest.raises(RunError, match=r"your own Net from net.py, .* --model path/to/net.py:Net\(width=6\)"):
        mm.load(tmp_path / "run")
    with pytest.raises(RunError, match=r"'net:Net', but .* is a run of 'net:Net\(width=6\)'"):
        mm.load(tmp_path / "run", model=f"{path}:Net")
    with pytest.raises(RunError, match="is a run of Net"):
        mm.load(tmp_path / "run", model=Own)
    with pytest.raises(RunError, match="'mlp', but .* is a run of your own Net"):
        mm.load(tmp_path / "run", model="mlp")
    assert mm.load(tmp_path / "run", model=f"{path}:Net(width=6)").classes == ("inner", "outer")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net.py:Nett", "unknown model in .*net.py 'Nett'. Did you mean 'Net'?"),
        ("net.py:Net(depth=2)", "unknown argument of .* 'depth'"),
        ("net.py:FILE", "unknown model"),
        ("gone.py:Net", "no model file"),
        ("net.py:nn", "nn is module; expected a module, or a class or function that makes one"),
    ],
)
def test_what_a_file_does_not_hold_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FILE)
    with pytest.raises(ValueError, match=message):
        create_for(f"{tmp_path}/{text}", (2,), 2)


def test_data_of_another_kind_are_refused(tmp_path: Path) -> None:
    mm.fit(Own(), _rings(), recipe=mm.Recipe(1, 20), run=tmp_path / "run", progress=False)
    run = mm.load(tmp_path / "run", model=Own)
    x = torch.randn(8, 2)
    three = (x, torch.arange(8) % 3)
    for data, message in (("digits", "samples of the shape"), ((three, three), "the number of outputs 2, .* has 3")):
        with pytest.raises(RunError, match=message):
            run.evaluate(data)
    two = (x, torch.arange(8) % 2)
    assert 0 <= (run.evaluate((two, two)).accuracy or 0) <= 1


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        (torch.randn(3, 5), "inputs have the shape .3, 5.; the model takes samples of the shape .2,."),
        (object(), "inputs are object; expected a tensor, an image, a file"),
        ([], "inputs are empty"),
        ("picture.png", "picture.png is an image, but the model takes samples of the shape"),
        ("gone.npy", "no file 'gone.npy'"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs: Any, error: str, tmp_path: Path) -> None:
    result = mm.fit(Own(), _rings(), recipe=mm.Recipe(1, 20), progress=False)
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        mm.predict(result, inputs)


def test_images_are_read_as_the_training_images_were(tmp_path: Path) -> None:
    from PIL import Image

    data = mm.load_data("digits")
    model = mm.create_model("mlp(width=16)", in_channels=64, num_classes=10)
    result = mm.fit(model, data, recipe=mm.Recipe(4), run=tmp_path / "run", progress=False)
    images = _inputs(data)[:5]
    (tmp_path / "images" / ".hidden").mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "images" / ".hidden" / "x.png").write_bytes(b"")
    (tmp_path / "images" / "note.txt").write_text("no image")
    expected = mm.predict(result, images)
    predictions = mm.predict(tmp_path / "run", tmp_path / "images")
    assert predictions.names == tuple(str(tmp_path / "images" / f"{i}.png") for i in range(5))
    torch.testing.assert_close(predictions.outputs, expected.outputs)
    opened = [Image.open(path) for path in predictions.names]
    torch.testing.assert_close(mm.predict(result, opened).outputs, expected.outputs)
    assert [len(row) for row in predictions.top(3)] == [3] * 5
    assert "<table>" in predictions._repr_html_()


def test_a_packed_file_knows_its_classes(tmp_path: Path) -> None:
    data = mm.load_data("digits")
    model = mm.harden(mm.create_model("mlp(width=16)", in_channels=64, num_classes=10), mm.Sign(), weight_bits=1)
    images = _inputs(data)[:20]
    packed = mm.pack(model, data=data)
    packed.save(tmp_path / "packed")
    expected = mm.predict(model, images, data=data)
    for name in (packed, str(tmp_path / "packed"), mm.load_packed(tmp_path / "packed")):
        assert mm.predict(name, images).labels == expected.labels
        with pytest.raises(ValueError, match="algorithm is 'fista', which only the folder of a run needs"):
            mm.predict(name, images, algorithm="fista")


def test_outputs_beyond_the_known_classes_are_no_answers() -> None:
    x, y = torch.randn(60, 2), torch.arange(60) % 2
    model = nn.Linear(2, 5)
    with torch.no_grad():
        model.bias[4] = 50.0
    result = mm.fit(model, (x, y), recipe=mm.Recipe(1, 20), progress=False)
    predictions = mm.predict(result, x)
    assert set(predictions.labels) <= {"0", "1"}
    assert predictions.probabilities is not None
    assert predictions.probabilities.shape == (60, 2)
    assert [len(choices) for choices in predictions.top(5)] == [2] * 60
    assert len(predictions.rows(2)) == 120
    assert "58" not in str(predictions)  # rows are of samples, as many as are shown
    with pytest.raises(ValueError, match="gives 1 outputs, and there are 3 classes"):
        mm.predict(nn.Linear(2, 1), x, data=((x, torch.arange(60) % 3), (x, torch.arange(60) % 3)))
    digits = mm.load_data("digits")
    with pytest.raises(ValueError, match="gives 11 outputs, and there are 10 classes"):
        mm.predict(nn.Sequential(nn.Flatten(), nn.Linear(64, 11)), _inputs(digits)[:2], data=digits)


def test_predictions_that_are_nan_are_none(tmp_path: Path) -> None:
    inputs = torch.randn(3, 2)
    inputs[1, 0] = float("nan")
    with pytest.raises(ValueError, match=r"outputs for 1 are NaN \(1 of 3 samples\)"):
        mm.predict(nn.Linear(2, 2), inputs)
    result = mm.fit(Own(), _rings(), recipe=mm.Recipe(1, 20), progress=False)
    with pytest.raises(ValueError, match="device is 'tpu'"):
        mm.predict(result, torch.randn(3, 2), device="tpu")


@pytest.mark.parametrize("change", [lambda x: x.float(), lambda x: x.long(), lambda x: x.float().numpy()])
def test_images_from_0_to_255_that_are_no_bytes_are_refused(change: Callable[[Tensor], Any]) -> None:
    data = mm.load_data("digits")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    images = _inputs(data)[:4]
    with pytest.raises(ValueError, match=r"inputs go up to 255, .* expected bytes \(uint8\), or floats from 0 to 1"):
        mm.predict(model, change(images), data=data)
    ones = mm.predict(model, change(images) / 255.0, data=data)
    torch.testing.assert_close(ones.outputs, mm.predict(model, images, data=data).outputs)


def test_one_output_of_a_bare_module_is_a_number() -> None:
    predictions = mm.predict(nn.Linear(2, 1), torch.randn(3, 2))
    assert predictions.classes == ()
    assert predictions.columns() == ["sample", "output"]
    assert len(str(predictions).splitlines()) == 4
    with pytest.raises(TypeError, match="no array of numbers"):
        mm.predict(nn.Linear(2, 1), [[1.0, 2.0], [1.0]])

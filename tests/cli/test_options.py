"""Options: checked before slow work, named in errors as they were typed, and read from files."""

import warnings
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import minimand as mm
from command_line import refused
from minimand import cli
from minimand.cli import main
from minimand.cli.commands._registry import COMMANDS
from minimand.cli.options import TrainingOptions
from minimand.cli.words import in_options
from minimand.models import UnrolledNetwork

RINGS = ["--data", "nested_rings(samples=100)", "--model", "mlp(width=8)", "--epochs", "1", "--quiet"]
TRAINING = [name for name, command in COMMANDS.items() if issubclass(command, TrainingOptions)]
NET = """
from torch import nn
def net(num_classes):
    return nn.Sequential(*[nn.Sequential(nn.Linear(2, 2), nn.Tanh()) for _ in range(2)], nn.Linear(2, num_classes))
raise SystemExit("whatever is below is not run")
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


WRONG = {
    "epochs": "0",
    "batch-size": "0",
    "accumulate": "0",
    "lr": "-1",
    "weight-decay": "-1",
    "validation": "2",
    "early-stopping": "-3",  # whether there is a validation part, the data say
    "label-smoothing": "2",
    "mixup": "-1",
    "cutmix": "-1",
    "ema": "1",
    "clip": "-1",
    "optimizer": "adamx",
    "schedule": "cosin",
    "augmentation": "pad",
    "model": "mpl",
    "device": "gpu7",
}


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("option", WRONG)
def test_a_wrong_option_is_named_before_data_are_read(
    name: str, option: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*args: Any, **options: Any) -> Any:
        raise AssertionError("the data were read first")

    monkeypatch.setattr("minimand.data.registry.load_data", load)
    message = refused(capsys, name, "--data", "digits", f"--{option}", WRONG[option])
    assert f"--{option} is " in message or message.startswith(f"minimand: unknown {option} ")
    assert WRONG[option] in message


@pytest.mark.parametrize("name", TRAINING)
def test_every_option_of_a_training_can_stand_in_a_file(name: str, tmp_path: Path) -> None:
    from minimand.cli.configuration import with_config

    values = {"data": "digits", "epochs": 3, "lr": "1e-3", "weight-decay": 1, "optimizer": "sgd", "seeds": 2, "seed": 5}
    known = {field.name.replace("_", "-") for field in fields(COMMANDS[name])}
    values = {option: value for option, value in values.items() if option in known}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    command, recipe = with_config(COMMANDS[name](config="c.yaml", epochs=7))
    assert recipe is None
    assert command.epochs == 7  # the command line comes first
    assert (command.lr, command.weight_decay, command.optimizer) == (1e-3, 1.0, "sgd")
    assert [getattr(command, option.replace("-", "_")) for option in values if option.startswith("seed")] == [
        value for option, value in values.items() if option.startswith("seed")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "unknown option in c.yaml 'epoch'. Did you mean 'epochs'?"),
        ("epochs: many", "epochs in c.yaml is 'many'; expected an integer"),
        ("epochs: 0", "--epochs is 0"),
        ("compile: 3", "compile in c.yaml is 3; expected true or false"),
        ("- 1", "holds no options"),
        ("{", "is no YAML"),
        ("model: net.py:net", "a folder never decides what code runs"),
        ("algorithm: net.py:A", "a folder never decides what code runs"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(text: str, message: str, capsys: pytest.CaptureFixture) -> None:
    Path("c.yaml").write_text(text)
    assert message in refused(capsys, "train", "--config", "c.yaml")


def test_the_configuration_of_a_run_begins_the_same_run(capsys: pytest.CaptureFixture) -> None:
    options = ["--optimizer", "sgd(momentum=0.5)", "--schedule", "cosine(warmup=0.1)", "--weight-decay", "0.01"]
    main(["train", *RINGS, *options, "--lr", "0.03", "--run", "first"])
    main(["train", "--config", "first/config.yaml", "--quiet", "--run", "second"])
    first, second = (yaml.safe_load(Path(run, "config.yaml").read_text()) for run in ("first", "second"))
    parts = ("model", "data", "inputs", "method", "recipe", "loss", "seed", "fingerprints")
    assert {part: first[part] for part in parts} == {part: second[part] for part in parts}
    optimizer = first["recipe"]["Recipe"]["optimizer"]["SGD"]
    assert (optimizer["lr"], optimizer["momentum"], optimizer["weight_decay"]) == (0.03, 0.5, 0.01)
    assert first["recipe"]["Recipe"]["schedule"] == {"Cosine": {"warmup": 0.1, "floor": 0.0}}


def test_augmentation_is_none_or_settings(capsys: pytest.CaptureFixture) -> None:
    images = ["--data", "digits", "--model", "mlp(width=8)", "--epochs", "1", "--quiet"]
    main(["train", *images, "--augmentation", "pad=1, flip=True", "--run", "a"])
    main(["train", *images, "--augmentation", "none", "--run", "b"])
    a, b = (
        yaml.safe_load(Path(run, "config.yaml").read_text())["recipe"]["Recipe"]["augmentation"]["Augmentation"]
        for run in "ab"
    )
    assert (a["pad"], a["flip"], b["pad"], b["flip"]) == (1, True, 0, False)


def test_no_option_of_a_command_is_called_as_a_field_in_an_error() -> None:
    command = COMMANDS["train"]()
    for field in fields(command):
        option = "--" + field.name.replace("_", "-")
        assert in_options(f"Recipe.{field.name} is 3; expected 2.", command) == f"{option} is 3; expected 2."
        assert in_options(f"{field.name} is 3; expected 2.", command) == f"{option} is 3; expected 2."
    command = COMMANDS["train"](recipe="airbench(epochs = 0)", optimizer="rmsprop(lr=-1)", batch_size=0)
    assert in_options("Recipe.epochs is 0; expected 1.", command) == "epochs in --recipe is 0; expected 1."
    assert in_options("lr is -1; expected 0.", command) == "lr in --optimizer is -1; expected 0."
    assert in_options("Recipe.batch_size is 0.", command) == "--batch-size is 0."
    assert in_options("Layerwise.hidden_layers is 3.", command) == "Layerwise.hidden_layers is 3."
    positional = [field.name for field in fields(COMMANDS["evaluate"]) if field.default is MISSING]
    assert in_options(f"{positional[0]} is 3.", COMMANDS["evaluate"]("x")) == f"{positional[0]} is 3."


def _train(words: list[str]) -> None:
    main(["train", *words, "--run", "run"])


def _compare(words: list[str]) -> None:
    main(["compare", *words, "--seeds", "1", "--algorithm", "gradient_descent", "heavy_ball"])


@pytest.mark.parametrize("run", [_train, _compare])
def test_a_model_of_one_s_own_is_trained(run: Callable[[list[str]], None], capsys: pytest.CaptureFixture) -> None:
    Path("net.py").write_text(NET)
    run(["--data", "nested_rings(samples=100)", "--model", "net.py:net", "--epochs", "1", "--quiet"])
    assert "report: " in capsys.readouterr().out


def test_a_model_of_one_s_own_is_evaluated_and_predicts(capsys: pytest.CaptureFixture) -> None:
    Path("net.py").write_text(NET)
    _train(["--data", "nested_rings(samples=100)", "--model", "net.py:net", "--epochs", "1", "--quiet"])
    import numpy as np

    np.save("x.npy", np.zeros((2, 2), "float32"))
    for words in (["evaluate", "run"], ["predict", "run", "x.npy"], ["export", "run", "-o", "x.onnx"]):
        assert "--model path/to/net.py:net" in refused(capsys, *words)
    main(["evaluate", "run", "--model", "net.py:net"])
    assert "accuracy" in capsys.readouterr().out
    main(["predict", "run", "x.npy", "--model", "net.py:net", "--top", "2"])
    out = capsys.readouterr().out
    assert "inner" in out
    assert "outer" in out
    for words, message in (
        (["predict", "run", "gone.png"], "no file or folder 'gone.png'"),
        (["predict", "run"], "no files to predict"),
        (["predict", "run", "x.npy", "--top", "0"], "--top is 0; expected an integer, at least 1"),
    ):
        assert message in refused(capsys, *words)


def test_evaluate_takes_other_data_of_the_same_kind_and_no_others(capsys: pytest.CaptureFixture) -> None:
    main(["train", *RINGS, "--run", "run"])
    main(["evaluate", "run", "--data", "nested_rings(samples=60)"])
    assert "60 of nested_rings" in capsys.readouterr().out
    assert "was trained on samples of the shape (2,), and digits has" in refused(
        capsys, "evaluate", "run", "--data", "digits"
    )


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_shells_complete(
    shell: str, capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    main(["completion", shell])
    script = capsys.readouterr().out
    assert "predict" in script
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    main(["--install-completion"])
    assert str(tmp_path) in capsys.readouterr().out.replace("\n", "")
    (written,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert written.read_text() == script.removesuffix("\n")
    assert "unknown shell 'zhs'. Did you mean 'zsh'?" in refused(capsys, "completion", "zhs")


def test_diagnose_looks_at_the_batch_that_is_named(capsys: pytest.CaptureFixture) -> None:
    Path("net.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, in_features):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(in_features, 9), nn.Linear(9, num_classes))\n"
    )
    main(["diagnose", "net.py:net", "--shape", "5", "--batch-size", "8"])
    assert "8 samples" in capsys.readouterr().out
    message = refused(capsys, "diagnose", "mlp", "--data", "digits", "--shape", "3")
    assert "--shape is (3,), and --data 'digits' is given too" in message
    assert "--shape is (0, 3)" in refused(capsys, "diagnose", "mlp", "--shape", "0", "3")
    main(["train", "--data", "digits", "--model", "mlp(width=4)", "--epochs", "1", "--run", "run", "--quiet"])
    assert "was trained on samples of the shape" in refused(capsys, "diagnose", "run", "--data", "nested_rings")
    main(["train", "--data", "digits", "--model", "net.py:net", "--epochs", "1", "--run", "own", "--quiet"])
    assert "--own-model path/to/net.py:net" in refused(capsys, "diagnose", "own")
    main(["diagnose", "own", "--own-model", "net.py:net"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--shape", "3"], "--shape is (3,), and a run has its own shape"),
        (["run", "--data", "digits"], "--data is 'digits', and a run has its own"),
        (["mlp", "--data", "digits", "--shape", "3"], "--shape is (3,), and --data 'digits' is given too"),
    ],
)
def test_explain_ignores_no_option(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    Path("run").mkdir()
    assert message in refused(capsys, "explain", *arguments)


def test_a_model_takes_settings_of_any_model_by_its_name(capsys: pytest.CaptureFixture) -> None:
    model = "preact_resnet20(depth=3, width=4, memory={}, parametrization=mup)"
    train = ["train", "--data", "digits", "--epochs", "1", "--quiet", "--algorithm", "leapfrog", "--model"]
    main([*train, model.format("reversible")])
    trained = mm.load("runs/1").model
    assert isinstance(trained, UnrolledNetwork)
    assert (trained.memory, trained.config["parametrization"]) == ("reversible", "mup")
    assert "Did you mean 'reversible'" in refused(capsys, *train, model.format("reversable"))


def test_a_warning_is_a_line_without_our_source(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def shown(console: Console) -> None:
        for file in (mm.__file__, "own.py"):
            console.print(warnings.formatwarning("off by 1", UserWarning, file, 3), end="")

    before = warnings.formatwarning
    monkeypatch.setattr(cli, "_read", lambda words, console: shown)
    main(["explain"])
    assert capsys.readouterr().out == "minimand: off by 1\nown.py:3: UserWarning: off by 1\n"
    assert warnings.formatwarning is before

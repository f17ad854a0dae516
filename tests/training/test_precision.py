"""One rule of precision for Python and the command line, which a run keeps."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.cli import main
from minimand.recipes import recipe as recipes
from minimand.recipes.recipe import as_precision
from minimand.training.loop.events import Event, StepDone
from minimand.training.runs.run import Run

CPU = torch.device("cpu")


def _network(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), activation(), *head)


def _lines(run: Path) -> list[dict[str, Any]]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def _stop(event: Event) -> None:
    if isinstance(event, StepDone) and event.step == 5:
        raise KeyboardInterrupt


@pytest.mark.parametrize("is_fast", [True, False])
def test_auto_is_bf16_for_normalized_networks_on_images_where_it_is_fast(
    is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "has_bf16", lambda device: is_fast)
    digits, rings = mm.load_data("digits"), mm.load_data("nested_rings")
    expected = "bf16" if is_fast else "fp32"
    assert as_precision("auto", digits, _network(), CPU) == expected
    assert as_precision("auto", digits, _network(mm.Sign), CPU) == "fp32"
    assert as_precision("auto", digits, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), CPU) == "fp32"
    assert as_precision("auto", rings, nn.Linear(2, 2), CPU) == "fp32"
    for precision in ("fp32", "bf16"):
        assert as_precision(precision, digits, _network(), CPU) == precision


def test_a_run_says_what_auto_became_and_keeps_it_where_the_rule_would_say_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "has_bf16", lambda device: True)
    recipe = mm.Recipe(1, 256)
    with pytest.raises(KeyboardInterrupt):
        mm.fit(_network(), "digits", recipe=recipe, run=tmp_path / "run", callbacks=[_stop], checkpoint_every=0)
    monkeypatch.setattr(recipes, "has_bf16", lambda device: False)
    mm.fit(_network(), "digits", recipe=recipe, run=tmp_path / "run")
    assert Run(tmp_path / "run").config()["recipe"]["Recipe"]["precision"] == "bf16"


def test_evaluation_by_the_same_rule_gives_what_training_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "has_bf16", lambda device: True)
    for model in (_network(), _network(mm.Sign)):
        result = mm.fit(model, "digits", method="backpropagation", recipe=mm.Recipe(1, 256))
        assert mm.evaluate(model, "digits") == result.evaluation


def test_the_same_settings_give_the_same_numbers_and_go_on_in_each_others_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, recipe = "resnet20(depth=3, width=4)", mm.Recipe(2, 256)
    words = ["train", "--data", "digits", "--model", name, "--algorithm", "fista", "--epochs", "2"]
    main([*words, "--batch-size", "256", "--quiet", "--run", "by_command"])

    def by_python(run: str, *callbacks: Any) -> nn.Module:
        torch.manual_seed(0)
        model = mm.create_model(name, "fista", in_channels=1)
        mm.fit(model, "digits", recipe=recipe, run=run, callbacks=callbacks, checkpoint_every=0)
        return model

    trained = by_python("by_python")
    assert _lines(tmp_path / "by_python") == _lines(tmp_path / "by_command")
    again = by_python("by_command")  # it goes on, and is done
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), again.parameters(), strict=True))
    with pytest.raises(KeyboardInterrupt):
        by_python("stopped", _stop)
    main(["train", "--run", "stopped", "--quiet"])
    assert _lines(tmp_path / "stopped") == _lines(tmp_path / "by_python")


def test_a_mistyped_run_is_not_begun_and_the_nearest_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["train", "--data", "nested_rings", "--epochs", "1", "--run", "runs/first"])
    assert "run: runs/first, new" in capsys.readouterr().out
    for words in (["--run", "runs/frist"], ["--run", "runs/frist", "--checkpoint-every", "5", "--quiet"]):
        with pytest.raises(SystemExit):
            main(["train", *words])
        assert "there is no run in 'runs/frist' to go on with; did you mean 'runs/first'?" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "frist").exists()
    with pytest.raises(SystemExit):
        main(["train", "--run", "runs/first", "--epochs", "3"])
    assert "To train its weights for longer: mm.fit(mm.load(run).model" in capsys.readouterr().err


def test_a_run_that_diverged_before_its_first_checkpoint_leaves_no_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "--data", "nested_rings", "--model", "mlp(depth=3)", "--epochs", "1", "--run", "run", "--quiet"]
    with pytest.raises(SystemExit):
        main([*words, "--lr", "1e25"])
    assert not (tmp_path / "run").exists()
    main(words)

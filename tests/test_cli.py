import re
from pathlib import Path

import pytest

import minimand as mm
from minimand.cli import main

OWN = """
import minimand as mm
class Half(mm.algorithms.HeavyBall):
    momentum: mm.Coefficient = 0.5
"""

RINGS = ["--data", "nested_rings(samples=100)", "--model", "mlp(width=8)", "--epochs", "2"]


def _run(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    main(list(arguments))
    return capsys.readouterr().out


def _fails(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    found = capsys.readouterr()
    assert "Traceback" not in found.err
    return " ".join(found.err.split()) or " ".join(found.out.split())


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def test_train_evaluate_and_cite(capsys: pytest.CaptureFixture) -> None:
    text = _run(capsys, "train", *RINGS)
    assert "data: nested_rings: 100 + 100 samples of 2, 2 classes" in text
    assert "epoch 2/2" in text
    assert "HeavyBall(step_size=1.0, momentum=0.5)" in text
    assert "report: runs/1/report.html" in text
    accuracy = re.findall(r"test accuracy +([0-9.]+ %)", text)[-1]
    evaluated = _run(capsys, "evaluate", "runs/1")
    assert re.search(rf"accuracy +{accuracy}", evaluated)
    assert "inner" in evaluated
    cited = _run(capsys, "cite", "runs/1", "telgarsky")
    assert "polyak1964heavyball" in cited
    assert "telgarsky2016benefits" in cited


def test_a_run_is_resumed_by_its_folder_alone(capsys: pytest.CaptureFixture) -> None:
    _run(capsys, "train", *RINGS, "--seed", "3", "--lr", "0.01", "--run", "mine")
    assert "was finished before" in _run(capsys, "train", "--run", "mine")
    assert "was finished before" in _run(capsys, "train", *RINGS, "--seed", "3", "--lr", "0.01", "--run", "mine")
    message = _fails(capsys, "train", "--run", "mine", "--epochs", "3")
    assert "recipe.Recipe.epochs was 2 and is 3" in message


def test_quiet_prints_the_result_only(capsys: pytest.CaptureFixture) -> None:
    text = _run(capsys, "train", *RINGS, "--quiet")
    assert "epoch 1/2" not in text
    assert "test accuracy" in text


def test_an_algorithm_of_one_s_own(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    assert "Half(step_size=1.0, momentum=0.25)" in _run(capsys, "certify", "own.py:Half(momentum=0.25)")
    _run(capsys, "train", *RINGS, "--algorithm", "own.py:Half", "--run", "mine")
    assert "a folder never decides what code runs" in _fails(capsys, "train", "--run", "mine")
    assert "was finished before" in _run(capsys, "train", "--run", "mine", "--algorithm", "own.py:Half")
    assert "unknown algorithm 'Half'" in _fails(capsys, "evaluate", "mine")
    assert "accuracy" in _run(capsys, "evaluate", "mine", "--algorithm", "own.py:Half")


def test_certify_prints_a_table_each_and_draws(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    text = _run(capsys, "certify", "heavy_ball", "leapfrog", "--depth", "6", "--plot", "figures")
    assert "HeavyBall(step_size=1.0, momentum=0.5), 6 layers, residual binding" in text
    assert "rho = z^2 - 1,  sigma = 2 z" in text
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"heavy_ball.svg", "leapfrog.svg"}
    assert "<svg" in (tmp_path / "figures" / "leapfrog.svg").read_text()


def test_compare_prints_one_table(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    text = _run(
        capsys, "compare", *RINGS, "--algorithm", "gradient_descent", "nesterov_y", "--seeds", "2", "--run", "c"
    )
    assert "GradientDescent(step_size=1.0) seed 1" in text
    assert re.search(r"NesterovY\(step_size=1.0, momentum=0.5\) +[0-9.]+ ± [0-9.]+", text)
    assert (tmp_path / "c" / "report.html").is_file()


@pytest.mark.parametrize(
    ("what", "names"),
    [("algorithms", list(mm.algorithms.builtin)), ("models", mm.list_models()), ("data", list(mm.list_data()))],
)
def test_list_names_everything(capsys: pytest.CaptureFixture, what: str, names: list[str]) -> None:
    text = _run(capsys, "list", what)
    assert all(re.search(rf"^{name} +\S", text, re.M) for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "fashion"], "unknown data set 'fashion'. Did you mean 'fashion_mnist'"),
        (["train", "--data", "digits", "--model", "resnet_20"], "Did you mean 'resnet20'"),
        (["train", "--data", "digits", "--algorithm", "heavy_ball(momentum=2)"], "momentum is 2, outside [-1, 1]"),
        (["train", "--data", "nested_rings", "--model", "resnet20"], "resnet20 takes images"),
        (["train", "--data", "digits", "--epochs", "0"], "Recipe.epochs is 0"),
        (["train", "--epoch", "3"], "Unrecognized"),
        (["evaluate", "nowhere"], "'nowhere' is no run: it does not exist"),
        (["evaluate", "."], "'.' is no run: it holds no config.yaml"),
        (["certify", "heavyball"], "Did you mean 'heavy_ball'"),
        (["certify"], "unknown algorithm ''"),
        (["certify", "heavy_ball", "--depth", "0"], "depth is 0"),
        (["compare", "--data", "digits", "--algorithm", "heavyball"], "Did you mean 'heavy_ball'"),
        (["compare", "--data", "digits", "--seeds", "0"], "seeds is 0"),
        (["list", "algorithm"], "invalid choice 'algorithm'"),
        (["cite"], "nothing to cite"),
        (["cite", "resnet"], "Did you mean 'resnet"),
        (["cite", "."], "'.' is no run"),
    ],
)
def test_bad_input_gets_a_message_and_leaves_nothing(
    capsys: pytest.CaptureFixture, tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert message in _fails(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minimand.data.list_data", lambda: {}["missing"])
    with pytest.raises(KeyError):
        main(["list", "data"])

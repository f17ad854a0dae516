import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import minimand as mm
from command_line import refused
from minimand._support.sealed import sealed_yaml
from minimand.cli import main
from minimand.models.own import make_own

OWN = """
import minimand as mm
class Half(mm.algorithms.HeavyBall):
    momentum: mm.Coefficient = 0.5
"""

SLOW = """
import minimand as mm
class My(mm.Algorithm):
    step_size: mm.Coefficient = 1.0
    def start(self, x): return x
    def step(self, state, gradient, k): return state - {} * self.step_size(k) * gradient(state)
    def read(self, state): return state
"""

RINGS = ["--data", "nested_rings(samples=100)", "--model", "mlp(width=8)", "--epochs", "2"]


def _run(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    main(list(arguments))
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def test_train_evaluate_and_cite(capsys: pytest.CaptureFixture) -> None:
    text = _run(capsys, "train", *RINGS, "--algorithm", "heavy_ball")
    assert "data: nested_rings: 200 samples of 2, 2 classes, 100 to train, 100 to test" in text
    assert "epoch 2/2" in text
    assert "HeavyBall(step_size=1.0, momentum=0.5)" in text
    assert "report: runs/1/report.html" in text
    accuracy = re.findall(r"test accuracy +([0-9.]+ %)", text)[-1]
    evaluated = _run(capsys, "evaluate", "runs/1")
    assert re.search(rf"accuracy +{accuracy}", evaluated)
    assert "inner" in evaluated
    assert "GradientDescent(step_size=1.0)" in _run(capsys, "train", *RINGS)  # what the named model is known for
    cited = _run(capsys, "cite", "runs/1", "telgarsky")
    assert "polyak1964heavyball" in cited
    assert "telgarsky2016benefits" in cited


def test_a_run_is_resumed_by_its_folder_alone(capsys: pytest.CaptureFixture) -> None:
    _run(capsys, "train", *RINGS, "--seed", "3", "--lr", "0.01", "--run", "mine")
    assert "was finished before" in _run(capsys, "train", "--run", "mine")
    assert "was finished before" in _run(capsys, "train", *RINGS, "--seed", "3", "--lr", "0.01", "--run", "mine")
    message = refused(capsys, "train", "--run", "mine", "--epochs", "3")
    assert "recipe.Recipe.epochs was 2 and is 3" in message


def test_quiet_prints_the_result_only(capsys: pytest.CaptureFixture) -> None:
    text = _run(capsys, "train", *RINGS, "--quiet")
    assert "epoch 1/2" not in text
    assert "test accuracy" in text


def test_options_with_the_name_of_a_recipe_s_field_set_it(capsys: pytest.CaptureFixture) -> None:
    options = ["--batch-size", "20", "--accumulate", "2", "--validation", "0.2", "--early-stopping", "1"]
    _run(capsys, "train", *RINGS, *options, "--precision", "bf16", "--lr", "0.01", "--run", "mine", "--quiet")
    recipe = yaml.safe_load(Path("mine/config.yaml").read_text())["recipe"]["Recipe"]
    expected = {"epochs": 2, "batch_size": 20, "accumulate": 2, "validation": 0.2, "early_stopping": 1}
    assert {**recipe, **expected, "precision": "bf16"} == recipe
    assert recipe["optimizer"]["AdamW"]["lr"] == 0.01


def test_an_algorithm_of_one_s_own(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    assert "Half(step_size=1.0, momentum=0.25)" in _run(capsys, "certify", "own.py:Half(momentum=0.25)")
    _run(capsys, "train", *RINGS, "--algorithm", "own.py:Half", "--run", "mine")
    assert "a folder never decides what code runs" in refused(capsys, "train", "--run", "mine")
    assert "was finished before" in _run(capsys, "train", "--run", "mine", "--algorithm", "own.py:Half")
    message = refused(capsys, "evaluate", "mine")
    assert "'own:Half(step_size=1.0, momentum=0.5)' is your own" in message
    assert "--algorithm path/to/file.py:MyMethod" in message
    assert "accuracy" in _run(capsys, "evaluate", "mine", "--algorithm", "own.py:Half")
    assert "a run of 'own:Half" in refused(capsys, "evaluate", "mine", "--algorithm", "gradient_descent")
    text = _run(capsys, "cite", "mine")
    assert "wu2024optdnn" in text
    assert "polyak1964heavyball" not in text


def test_a_changed_algorithm_is_another(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """The same text for other code: neither resumed, nor evaluated, nor taken for finished."""
    (tmp_path / "own.py").write_text(SLOW.format(0.5))
    _run(capsys, "train", *RINGS, "--algorithm", "own.py:My", "--run", "mine")
    (tmp_path / "own.py").unlink()
    (tmp_path / "other.py").write_text(SLOW.format(0.01))
    message = refused(capsys, "train", "--run", "mine", "--algorithm", "other.py:My", *RINGS)
    assert "the algorithm is not what it was" in message.replace("command.algorithm", "")
    assert "is not what it was when the run" in refused(capsys, "evaluate", "mine", "--algorithm", "other.py:My")


def test_algorithms_that_read_the_same_are_told_apart(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    for name, factor in (("a", 0.5), ("b", 0.01)):
        (tmp_path / f"{name}.py").write_text(SLOW.format(factor))
    text = _run(capsys, "compare", *RINGS, "--seeds", "1", "--quiet", "--algorithm", "a.py:My", "b.py:My")
    rows = [re.search(rf"My\(step_size=1.0\) \[{name}.py \w+\] +(.*)", text) for name in "ab"]
    assert rows[0] is not None
    assert rows[1] is not None
    assert rows[0].group(1).split()[:2] != rows[1].group(1).split()[:2]


EVIL = """
from pathlib import Path
import minimand as mm
Path(__file__).with_name("ran").touch()
class My(mm.algorithms.HeavyBall): pass
"""


@pytest.mark.parametrize("suffix", ["py", "pyc"])
def test_a_tampered_run_runs_nothing(capsys: pytest.CaptureFixture, tmp_path: Path, suffix: str) -> None:
    _run(capsys, "train", *RINGS, "--run", "mine", "--quiet")
    (tmp_path / f"evil.{suffix}").write_text(EVIL)
    config = yaml.safe_load((tmp_path / "mine" / "config.yaml").read_text())
    config["model"]["algorithm"] = config["command"]["algorithm"] = f"evil.{suffix}:My"
    del config["checksum"]
    (tmp_path / "mine" / "config.yaml").write_text(sealed_yaml(yaml.safe_dump(config)))
    for arguments in (["train", "--run", "mine"], ["evaluate", "mine"]):
        refused(capsys, *arguments)
    assert "wu2024optdnn" in _run(capsys, "cite", "mine")
    assert not (tmp_path / "ran").exists()


def test_cite_names_the_default_model_and_the_method(capsys: pytest.CaptureFixture) -> None:
    _run(capsys, "train", "--data", "nested_rings(samples=100)", "--epochs", "1", "--quiet")
    text = _run(capsys, "cite", "runs/1")
    for key in ("wu2024optdnn", "polyak1964heavyball", "rumelhart1986", "sander2021momentum"):
        assert key in text
    assert "nothing to cite: parity has no reference" in refused(capsys, "cite", "parity")


def test_evaluate_says_which_checkpoint_it_passes_over(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    _run(capsys, "train", *RINGS, "--run", "mine", "--quiet")
    newest = sorted((tmp_path / "mine" / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-10])
    assert f"{newest.name} is cut short" in " ".join(_run(capsys, "evaluate", "mine").split())


def test_certify_prints_a_table_each_and_draws(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    text = _run(capsys, "certify", "heavy_ball", "leapfrog", "--depth", "6", "--plot", "figures")
    assert "HeavyBall(step_size=1.0, momentum=0.5), 6 layers, residual binding" in text
    assert "rho = z^2 - 1,  sigma = 2 z" in text
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"heavy_ball.svg", "leapfrog.svg"}
    _run(capsys, "certify", "heavy_ball", "heavy_ball(momentum=-0.9)", "--depth", "6", "--plot", "two")
    assert {p.name for p in (tmp_path / "two").iterdir()} == {
        "heavy_ball.svg", "heavy_ball_step_size_1.0_momentum_-0.9.svg",
    }  # fmt: skip
    assert "<svg" in (tmp_path / "figures" / "leapfrog.svg").read_text()


def test_compare_prints_one_table(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    text = _run(
        capsys, "compare", *RINGS, "--algorithm", "gradient_descent", "nesterov_y", "--seeds", "2", "--run", "c"
    )
    assert "GradientDescent(step_size=1.0) seed 1" in text
    assert re.search(r"NesterovY\(step_size=1.0, momentum=0.5\) +[0-9.]+ ± [0-9.]+", text)
    assert (tmp_path / "c" / "report.html").is_file()


def test_search_prints_what_it_found(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = ["search", *RINGS, "--trials", "3", "--seeds", "1", "--run", "s"]
    text = _run(capsys, *search)
    assert re.search(r"trial 1/3  x_next = x - grad\(x\): validation loss [0-9.]+\n", text)
    assert "trial 1  epoch" not in text
    assert (tmp_path / "s" / "found.py").read_text() in text
    assert "kernel distance 0 from" in text
    assert re.search(r"GradientDescent\(step_size=1.0\) +[0-9.]+ +[0-9.]+", text)
    certified = _run(capsys, "certify", "s/found.py:Found", "--depth", "8")
    stable, gains = (
        next(line.strip() for line in certified.splitlines() if line.startswith(n)) for n in ("zero", "gains")
    )
    assert stable in text
    assert gains in text

    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["minimand.experiments.searching.search"], "search", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main(search)
    assert stopped.value.code == 130
    assert "the same command goes on where it was" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [name.removeprefix("list_") for name in mm.__all__ if name.startswith("list_")])
def test_list_names_everything(capsys: pytest.CaptureFixture, kind: str) -> None:
    lines = getattr(mm, f"list_{kind}")()
    text = _run(capsys, "list", kind)
    assert len(lines) > 2
    assert all(re.search(rf"^{name} +\S", text, re.M) for name in lines)
    assert all(line.strip() for line in lines.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "fashion"], "unknown data set 'fashion'. Did you mean 'fashion_mnist'"),
        (["train", "--data", "digits", "--model", "resnet_20"], "Did you mean 'resnet20'"),
        (["train", "--data", "digits", "--algorithm", "heavy_ball(momentum=2)"], "momentum is 2, outside [-1, 1]"),
        (["train", "--data", "nested_rings", "--model", "resnet20"], "resnet20 takes images"),
        (["train", "--data", "digits", "--epochs", "0"], "--epochs is 0"),
        (["train", "--epoch", "3"], "Unrecognized"),
        (["train", "--data", "song.txt", "--tokens", "byte"], "--data \"song.txt(tokens='byte')\""),
        (["evaluate", "nowhere"], "'nowhere' is no run: it does not exist"),
        (["evaluate", "."], "'.' is no run: it holds no config.yaml"),
        (["certify", "heavyball"], "Did you mean 'heavy_ball'"),
        (["certify"], "no algorithm to certify"),
        (["certify", "implicit_pgd20"], 'given another: minimand certify "proximal_gradient"'),
        (["certify", "equilibrium_cifar"], "is a model that runs no algorithm"),
        (["train", "--data", "digits", "--device", "foo"], "device is 'foo'; expected 'cpu'"),
        (["train", "--data", "digits", "--device", "cuda:99"], "device is 'cuda:99', but this machine has"),
        (["train", "--data", "digits", "--seed", "99999999999999999999"], "expected an integer from 0 to 2^63 - 1"),
        (["train", "--data", "digits", "--checkpoint-every", "-1"], "--checkpoint-every is -1.0; expected seconds"),
        (["train", "--data", "digits", "--model", "mlp(width=2.5)"], "width is 2.5; expected an integer"),
        (["train", "--data", "digits", "--model", "mlp(width=4,width=5)"], "it has width twice"),
        (["train", "--data", "digits", "--lr", "nan"], "lr is nan; expected a positive number"),
        (["compare", "--data", "nested_rings", "--algorithm", "heavy_ball", "HeavyBall"], "twice; expected each once"),
        (["certify", "heavy_ball", "--depth", "0"], "depth is 0"),
        (["compare", "--data", "digits", "--algorithm", "heavyball"], "Did you mean 'heavy_ball'"),
        (["compare", "--data", "digits", "--seeds", "0"], "seeds is 0"),
        (["search", "--data", "nested_rings", "--trials", "0"], "trials is 0; expected an integer of at least 1"),
        (
            ["search", "--data", "nested_rings", "--run", "s", "--storage", "mine"],
            "storage is 'mine', which Optuna cannot open",
        ),
        (["list", "algorithm"], "unknown kind 'algorithm'. Did you mean 'algorithms'?"),
        (["tarin", "--data", "digits"], "unknown command 'tarin'. Did you mean 'train'?"),
        (["cite"], "nothing to cite"),
        (["cite", "resnet"], "Did you mean 'resnet"),
        (["cite", "."], "'.' is no run"),
    ],
)
def test_bad_input_gets_a_message_and_leaves_nothing(
    capsys: pytest.CaptureFixture, tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert message in refused(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that our own code raises, where it is not meant for the person who reads it."""
    monkeypatch.setattr("minimand.data.list_data", lambda: {}["missing"])
    with pytest.raises(KeyError):
        main(["list", "data"])
    monkeypatch.setattr("minimand.cli.commands.list.make_table", None)
    with pytest.raises(TypeError):
        main(["list", "algorithms"])


def test_a_missing_package_is_named_with_its_extra(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PEPit", None)
    message = refused(capsys, "certify", "heavy_ball", "--rate", "1", "10")
    assert "PEPit is needed" in message
    assert "pip install 'minimand[theory]'" in message


def test_help_ends_with_the_names_that_options_take(capsys: pytest.CaptureFixture) -> None:
    for command, kinds in {"train": ["methods", "algorithms", "models", "data"], "study run": ["studies"]}.items():
        with pytest.raises(SystemExit) as stopped:
            main([*command.split(), "--help"])
        assert stopped.value.code == 0
        text = " ".join(capsys.readouterr().out.split())
        for kind in kinds:
            assert f"{kind}: {', '.join(getattr(mm, f'list_{kind}')())}" in text


@pytest.mark.parametrize("command", mm.list_commands())
def test_every_command_has_help_and_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture, command: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert mm.list_commands()[command].split()[0] in capsys.readouterr().out
    message = refused(capsys, command, "--no-such-option")
    assert "--no-such-option" in message or f"minimand {command} --help" in message


def test_the_list_of_commands_loads_no_torch() -> None:
    code = "import sys; from minimand import list_commands; list_commands(); print('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "False\n"


def test_version(capsys: pytest.CaptureFixture) -> None:
    assert _run(capsys, "--version") == f"minimand {mm.__version__}\n"


def test_studies_are_listed_run_and_printed(capsys: pytest.CaptureFixture) -> None:
    listed = _run(capsys, "study", "list")
    assert re.search(r"^parity +Parity", listed, re.M)
    printed = _run(capsys, "study", "run", "parity", "--scale", "smoke")
    assert len(re.findall(r"^\d/6  hidden 2, depth 8", printed, re.M)) == 6
    table = printed[printed.index("hidden  depth") :].partition("report: ")[0]
    assert _run(capsys, "study", "table", "parity", "--scale", "smoke") == table
    again = _run(capsys, "study", "run", "parity", "--scale", "smoke")
    assert "1/6" not in again
    assert table in again
    assert Path("runs/studies/parity-smoke/report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "pariti"), "parity"),
        (("run", "parity", "--scale", "big"), "smoke"),
        (("run", "parity", "--scale", "smoke", "--seeds", "0"), "--seeds is 0; expected an integer of at least 1"),
        (("run", "apg2", "--scale", "paper"), "--data-folder"),
        (("run", "hb_agd", "--data-folder", "nowhere"), "nowhere"),
        (("table", "parity"), "minimand study run parity --scale cpu"),
    ],
)
def test_a_study_refuses(capsys: pytest.CaptureFixture, arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(capsys, "study", *arguments)
    assert not list(Path().glob("runs/studies/*/results.json"))


NET = """
from torch import nn, tanh
class Net(nn.Module):
    def __init__(self, depth=30):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(depth))
        self.head = nn.Linear(64, 10)
    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers:
            x = tanh(layer(x))
        return self.head(x)
ready = Net(2)
def words(): return nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 9))
plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))
number = 3
def broken(): raise KeyError("boom")
"""


def test_diagnose_reads_and_repairs_a_model_of_ones_own(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    Path("net.py").write_text(NET)
    text = " ".join(_run(capsys, "diagnose", "net.py:Net", "--data", "digits", "--fix", "--plot", "layers.svg").split())
    assert text.index("vanishing at layers.1") < text.index("repaired") < text.index("ok: ")
    assert 'mm.initialize(model, "critical", batch=x)' in text
    assert Path("layers.svg").is_file()
    assert "vanishing" in _run(capsys, "diagnose", "net.py:Net(depth=12)", "--shape", "64")
    assert "nothing to repair" in _run(capsys, "diagnose", "net.py:ready", "--shape", "64", "--fix")
    assert "ok: " in _run(capsys, "diagnose", "net.py:words", "--shape", "7", "--tokens", "9")
    output = _run(capsys, "diagnose", "net.py:ready", "--shape", "64", "--fix", "--output", "none.pt")
    assert "none.pt is not written" in output
    assert not Path("none.pt").exists()
    output = _run(capsys, "diagnose", "mlp(width=32)", "--data", "digits", "--jacobian")
    assert "ok: " in output
    assert "singular values of the Jacobian" in output
    output = _run(capsys, "diagnose", "net.py:words", "--shape", "7", "--tokens", "9", "--jacobian", "--curvature")
    assert "tangent kernel" in output
    assert "Hessian" not in output
    assert "Hessian" in _run(capsys, "diagnose", "net.py:ready", "--data", "digits", "--curvature")
    cases = [
        (["net.py:Nett", "--shape", "64"], "Did you mean 'Net'"),
        (["net.py:Net"], "needs a batch; expected --shape"),
        (["net.py:Net", "--shape", "63"], "Net fails on a batch of shape (64, 63)"),
        (["net.py:Net(dept=3)", "--shape", "64"], "Did you mean 'depth'"),
        (["net.py:number", "--shape", "64"], "is int; expected a module"),
        (["net.py:Net(depth='x')", "--shape", "64"], "net.py:Net(depth='x') "),
        (["net.py:broken", "--shape", "64"], "net.py:broken raises KeyError: 'boom'"),
        (["net.py:Net", "--shape", "64", "--plot", "nowhere/x.svg"], "expected a file in a folder that exists"),
        (
            ["net.py:Net", "--shape", "64", "--report", "nowhere/x.html"],
            "--report is 'nowhere/x.html'",
        ),
        (["net.py:Net", "--shape", "64", "--output", "x.pt"], "nothing is repaired; expected --fix beside it"),
        (["other.py:Net", "--shape", "64"], "no model file 'other.py'"),
        (["mpl", "--data", "digits"], "Did you mean 'mlp'"),
        (["net.py:Net", "--shape", "64", "--batch-size", "0"], "--batch-size is 0"),
    ]
    for arguments, message in cases:
        assert message in refused(capsys, "diagnose", *arguments)


def test_diagnose_saves_the_repaired_weights_and_a_page(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    Path("net.py").write_text(NET)
    torch.manual_seed(0)
    text = _run(
        capsys, "diagnose", "net.py:Net", "--data", "digits", "--fix", "--output", "fixed.pt", "--report", "d.html"
    )
    assert max(map(len, text.splitlines())) <= 110
    weights = torch.load("fixed.pt", weights_only=True)
    batch = mm.load_data("digits").example(count=64)
    model: Any = make_own("net.py:Net")
    model.load_state_dict(weights)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert mm.diagnose(model, batch).verdict.code == "ok"
    page = Path("d.html").read_text()
    for part in ("Would Net train?", "vanishing", "After the repair", "mm.Adam(", "layers.29"):
        assert part in page


def test_diagnose_keeps_within_the_width_of_the_terminal() -> None:
    names = {f"a_long_name_of_a_layer_number_{i}": nn.Linear(16, 16) for i in range(3)}
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        [pair for i, p in enumerate(names.items()) for pair in (p, (f"act{i}", nn.Tanh()))]
    )
    report = mm.diagnose(nn.Sequential(parts), torch.randn(8, 16))
    for width in (60, 80, 110):
        text = report.text(width)
        assert max(map(len, text.splitlines())) <= width
        assert "verdict" in text
    assert "not shown for lack of width" in report.text(80)
    assert "theory" in report.text(140)


def test_train_layer_by_layer_and_go_on(capsys: pytest.CaptureFixture) -> None:
    model = "resnet20(depth=3, width=4)"
    method = "layerwise(epochs_per_layer=1, auxiliary='linear')"
    shown = _run(capsys, "train", "--data", "digits", "--model", model, "--method", method, "--run", "greedy")
    assert "block 3" in shown
    assert "was finished before" in _run(capsys, "train", "--run", "greedy")
    assert "belilovsky2019greedy" in _run(capsys, "cite", "greedy")
    assert "Did you mean 'layerwise'" in refused(capsys, "train", "--data", "digits", "--method", "layerwize")
    assert "Did you mean 'hidden_layers'" in refused(
        capsys, "train", "--data", "digits", "--method", "layerwise(hidden=2)"
    )


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_run_layer_by_layer_is_evaluated_and_probed(capsys: pytest.CaptureFixture, ema: float) -> None:
    model = mm.create_model("resnet20(depth=3, width=4)", in_channels=1)
    recipe = mm.Recipe(1, 64, mm.SGD(0.05), ema=ema)
    result = mm.fit(model, mm.load_data("digits"), method=mm.Layerwise(auxiliary="linear"), recipe=recipe, run="greedy")
    assert result.test_accuracy is not None
    shown = _run(capsys, "evaluate", "greedy")
    assert re.search(rf"accuracy +{100 * result.test_accuracy:.2f} %", shown)
    probed = mm.probe(model, "digits")
    assert f"{100 * probed.layers[2].test_accuracy:.2f}" in _run(capsys, "probe", "greedy").splitlines()[-1]


def test_probe_a_trained_network(capsys: pytest.CaptureFixture) -> None:
    Path("net.py").write_text(NET)
    shown = _run(capsys, "probe", "net.py:plain", "--data", "digits", "--plot", "layers.svg")
    assert "linear probes" in shown
    assert Path("layers.svg").is_file()
    shown = _run(
        capsys, "probe", "net.py:plain", "--data", "digits", "--kind", "cnn", "--hidden-layers", "2", "--epochs", "1"
    )
    assert "probes of 2 hidden layers" in shown
    cases = [
        (["net.py:plain"], "needs samples; expected --data"),
        (["resnet20", "--data", "digits"], "expected the folder of a run, or path/to/file.py:name"),
        (["net.py:Net", "--data", "digits"], "a network with stem, layers, head"),
        (["net.py:plain", "--data", "nested_rings"], "fails on an example of the shape (4, 2)"),
        (["net.py:plain", "--data", "digits", "--kind", "cnn", "--epochs", "0"], "--epochs is 0"),
        (["net.py:plain", "--data", "digits", "--plot", "nowhere/x.svg"], "expected a file in a folder that exists"),
    ]
    for arguments, message in cases:
        assert message in refused(capsys, "probe", *arguments)


HARD = ["--data", "digits", "--model", "resnet20(width=2, depth=3, activation='sign', weight_bits=1)", "--epochs", "1"]


def test_a_run_of_a_network_of_steps_is_packed_evaluated_and_exported(capsys: pytest.CaptureFixture) -> None:
    _run(capsys, "train", *HARD, "--method", "target_propagation", "--run", "hard", "--precision", "fp32", "--quiet")
    assert yaml.safe_load(Path("hard/config.yaml").read_text())["model"]["activation"] == "sign"
    packed = _run(capsys, "pack", "hard", "-o", "hard.packed")
    assert "of 1 bit: bits to bits" in packed
    assert "size: 1-bit" in packed
    assert "bfloat16" not in packed
    expected = re.findall(r"(loss|accuracy) +([0-9.]+)", _run(capsys, "evaluate", "hard"))
    printed = re.findall(r"(loss|accuracy) +([0-9.]+)", _run(capsys, "evaluate", "hard.packed", "--data", "digits"))
    assert printed == expected
    _run(capsys, "train", *HARD, "--run", "rough", "--precision", "bf16", "--quiet")
    assert "the run is evaluated in bfloat16" in _run(capsys, "pack", "rough", "-o", "rough.packed")
    pytest.importorskip("onnxscript")
    assert "largest difference from torch" in _run(capsys, "export", "hard", "-o", "hard.onnx")
    assert Path("hard.onnx").stat().st_size > 1000


def test_what_cannot_be_packed_or_evaluated(capsys: pytest.CaptureFixture) -> None:
    _run(capsys, "train", *RINGS, "--run", "soft", "--quiet")
    assert "has no thresholds, so there is nothing to pack" in refused(capsys, "pack", "soft", "-o", "soft.packed")
    assert "expected a file in a folder that exists" in refused(capsys, "pack", "soft", "-o", "nowhere/soft.packed")
    assert "expected a file in a folder that exists" in refused(capsys, "export", "soft", "-o", "soft")
    Path("cut.packed").write_bytes(b"123")
    assert "cut.packed is cut short or no packed model" in refused(capsys, "evaluate", "cut.packed")
    assert "unknown activation 'sing'. Did you mean 'sign'?" in refused(
        capsys, "train", "--data", "digits", "--model", "resnet20(activation='sing')"
    )

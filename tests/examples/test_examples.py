"""Each script in examples/ runs, and what it prints is what it claims."""

import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"


@pytest.fixture
def printed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """What a script of a name prints, run in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr("sys.argv", [name, *arguments])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def accuracies(printed: str) -> list[float]:
    return [float(number) for number in re.findall(r"accuracy ([0-9.]+) %", printed)]


def test_an_algorithm_of_ones_own_is_certified_identified_and_trained(printed_by) -> None:
    printed = printed_by("own_algorithm")
    assert "TwoMomenta(step_size=1.0, momentum=0.5, second=0.2), 9 layers" in printed
    assert "zero-stable     yes" in printed
    assert "with both momenta: LinearMultistep(" in printed
    assert "with the first alone: HeavyBall(step_size=1.0, momentum=0.5)" in printed
    fixed, learned = accuracies(printed)
    assert min(fixed, learned) > 90


def test_a_trained_model_is_rewired_and_undone(printed_by) -> None:
    printed = printed_by("rewire_pretrained")
    assert "gradient descent, as before: True" in printed
    still, moving = map(float, re.findall(r"largest difference: (\S+)", printed))
    assert still == 0
    assert moving > 1
    assert "undone, as before: True" in printed
    assert "learnable momenta: 13 in 4 runs" in printed
    assert "each has a gradient: True" in printed


def test_a_network_that_does_not_train_is_repaired(printed_by) -> None:
    printed = printed_by("why_does_it_not_train")
    broken, repaired = accuracies(printed)
    assert broken < 20
    assert "exploding at" in printed
    assert 'Repair: mm.initialize(model, "critical", batch=x)' in printed
    assert "after the repair: ok" in printed
    assert repaired > 60


def test_thresholds_are_trained_and_packed_to_the_same_predictions(printed_by) -> None:
    printed = printed_by("training_to_bits")
    assert "of 1 bit: bits to bits" in printed
    assert "same predictions: 360 of 360" in printed
    (percent,) = accuracies(printed)
    assert percent > 95
    assert float(printed.split()[-1]) == pytest.approx(percent / 100, abs=5e-5)


def test_every_example_is_run_here_and_is_short() -> None:
    source = Path(__file__).read_text()
    for script in FOLDER.glob("*.py"):
        assert f'printed_by("{script.stem}"' in source, script.name
        assert len(script.read_text().splitlines()) <= 60, script.name


def test_two_skeletons_learn_to_write_from_the_sources_of_python(printed_by) -> None:
    printed = printed_by("language_model", "320")
    assert "python_stdlib" in printed
    bits = [float(number) for number in re.findall(r"([0-9.]+) bits a byte, 20,480 tokens seen", printed)]
    assert len(bits) == 2
    assert max(bits) < 6.5  # an even guess among 167 characters has 7.4
    assert printed.count("def ") == 2

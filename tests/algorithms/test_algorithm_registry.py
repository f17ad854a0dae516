"""What text may stand for an algorithm, and what code it may run."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

import minimand as mm
from minimand._support.errors import MinimandError
from minimand.algorithms import as_algorithm, is_own, specification

OWN = """
import minimand as mm
from contextlib import suppress
from pathlib import Path
Path(__file__).with_name("ran").touch()
class HeavyBall(mm.algorithms.HeavyBall):
    pass
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "my (files)"
    folder.mkdir()
    (folder / "own.py").write_text(OWN)
    return folder / "own.py"


def test_a_path_may_have_parentheses(own: Path) -> None:
    assert as_algorithm(f"{own}:HeavyBall(momentum=0.25)").coefficients()["momentum"](0) == 0.25


def test_one_s_own_class_is_not_the_built_in_one_of_its_name(own: Path) -> None:
    text = specification(as_algorithm(f"{own}:HeavyBall"))
    assert text == "own:HeavyBall(step_size=1.0, momentum=0.5)"
    assert is_own(text)
    assert not is_own(specification(mm.algorithms.HeavyBall()))
    with pytest.raises(ValueError, match=r"'own:HeavyBall\(.* is your own, and a folder never .* pass algorithm="):
        as_algorithm(text, allow_files=False)


def test_text_of_a_folder_runs_no_file(own: Path) -> None:
    with pytest.raises(ValueError, match="a folder never decides what code runs"):
        as_algorithm(f"{own}:HeavyBall", allow_files=False)
    assert not own.with_name("ran").exists()
    assert as_algorithm("heavy_ball(momentum=0.9)", allow_files=False) == mm.algorithms.HeavyBall(momentum=0.9)


def test_a_file_that_was_changed_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    algorithms = []
    for momentum in (0.1, 0.2):
        file.write_text(
            f"import minimand as mm\nclass My(mm.algorithms.HeavyBall):\n    momentum: mm.Coefficient = {momentum}\n"
        )
        algorithms.append(as_algorithm(f"{file}:My"))
    assert [algorithm.coefficients()["momentum"](0) for algorithm in algorithms] == [0.1, 0.2]
    file.write_text(file.read_text().replace("0.2", "0.1"))
    assert as_algorithm(f"{file}:My") == algorithms[0]


def test_only_python_files_are_read(own: Path) -> None:
    for suffix in (".pyc", ".txt", ""):
        other = own.with_suffix(suffix)
        other.write_text(OWN)
        with pytest.raises(ValueError, match=r"expected a name, or path/to/file\.py:MyMethod"):
            as_algorithm(f"{other}:HeavyBall")
    assert not own.with_name("ran").exists()


def test_a_stored_schedule_asks_for_the_algorithm() -> None:
    text = specification(mm.algorithms.HeavyBall(momentum=lambda k: 0.5))
    with pytest.raises(ValueError, match="A coefficient that is a function is code, .* pass algorithm="):
        as_algorithm(text, allow_files=False)


def test_a_file_that_ends_the_process_does_not(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import sys\n\nclass MyMethod:\n    sys.exit(3)\n")
    with pytest.raises(ValueError, match="does not import: SystemExit: 3"):
        as_algorithm(f"{tmp_path}/ends.py:MyMethod")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("heavy_ball(momentum=0.5, momentum=0.6)", "it has momentum twice"),
        ("heavy_ball(**{})", r"it has \*\* instead of a name"),
    ],
)
def test_each_argument_once(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_algorithm(text)


_LITERALS = st.recursive(
    st.sampled_from(
        ["0.5", "-1", "1e999", "'a'", "b'x'", "None", "1+1j", "Learnable", "f'{1}'", "10**10", "\0", "9" * 5000]
    ),
    lambda part: st.one_of(
        st.lists(part, max_size=3).map(lambda parts: f"({', '.join(parts)},)"),
        part.map("{{{}}}".format),
        part.map("{{{0}: {0}}}".format),
        part.map("Learnable({0}, {0}, {0})".format),
        part.map("Learnable(initial={0})".format),
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["momentum", "rho", "tableau", "step_size", "cap"]), literal=_LITERALS, cut=st.integers(0, 3)
)
def test_any_text_is_an_algorithm_or_one_error(name: str, literal: str, cut: int) -> None:
    for algorithm in ("heavy_ball", "linear_multistep", "runge_kutta", "fista"):
        text = f"{algorithm}({name}={literal})"
        with suppress(MinimandError):
            assert isinstance(as_algorithm(text[: len(text) - cut]), mm.Algorithm)


@pytest.mark.parametrize("text", ["(" * 9000, "-" * 9000 + "1", "[" * 5000 + "]" * 5000, "x" * 100_000, "{" * 9000])
def test_text_that_is_nested_deep_or_long_is_one_short_error(text: str) -> None:
    with pytest.raises(MinimandError) as caught:
        as_algorithm(f"heavy_ball(momentum={text})")
    assert len(str(caught.value)) < 1000

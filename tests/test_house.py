"""The house: its arrows, its weight, its words."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import minimand as mm

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "minimand"


def test_arrows_point_one_way() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_importing_is_light() -> None:
    """Nothing that is only used somewhere is loaded everywhere."""
    heavy = {"sklearn", "huggingface_hub", "matplotlib", "datasets", "sympy", "scipy", "tyro", "jinja2", "PIL", "rich"}
    code = (
        f"import torch, sys; before = set(sys.modules); import minimand; print({heavy} & (set(sys.modules) - before))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_every_public_name_is_there() -> None:
    for name in mm.__all__:
        assert getattr(mm, name) is not None
    assert set(mm.__all__) <= set(dir(mm))
    with pytest.raises(AttributeError, match="Did you mean 'certify'"):
        _ = mm.certfy


def test_one_algorithm_a_file_and_at_most_a_screen() -> None:
    for path in (SOURCE / "algorithms").glob("[!_]*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 60, path.name
        assert len(re.findall(r"^class ", text, re.M)) == 1, path.name


def test_the_two_bindings_have_no_other_name() -> None:
    for path in SOURCE.rglob("*.py"):
        assert not re.search(r"framing", path.read_text(), re.I), path

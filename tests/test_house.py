"""The house: its arrows, its weight, its words."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import house
import minimand as mm
from house import ROOT, SOURCE


def test_arrows_point_one_way() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout


def test_importing_is_light() -> None:
    """Nothing that is only used somewhere is loaded everywhere."""
    heavy = {"sklearn", "huggingface_hub", "matplotlib", "datasets", "sympy", "scipy", "tyro", "jinja2", "PIL", "rich"}
    code = (
        f"import torch, sys; before = set(sys.modules); import minimand; print({heavy} & (set(sys.modules) - before))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "set()"


def test_every_public_name_is_there() -> None:
    for name in mm.__all__:
        assert getattr(mm, name) is not None
    assert set(mm.__all__) <= set(dir(mm))
    with pytest.raises(AttributeError, match="Did you mean 'certify'"):
        _ = mm.certfy


def test_public_names_are_the_same_for_type_checkers() -> None:
    """The table of public names, and the imports beside it that an editor reads."""
    tree = house.FILES[SOURCE / "__init__.py"]
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module]
    pairs = {(alias.name, node.module) for node in imports for alias in node.names}
    assert pairs - {("unknown_name", "_support.errors")} == set(vars(mm)["_PUBLIC"].items())


def test_one_algorithm_a_file_and_at_most_a_screen() -> None:
    for path in (SOURCE / "algorithms").rglob("[!_]*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 60, path.name
        assert len(re.findall(r"^class ", text, re.M)) == 1, path.name


def test_no_file_is_longer_than_400_lines() -> None:
    _none(house.long_files)


def test_no_folder_is_a_corridor() -> None:
    _none(house.full_folders)


def test_no_function_is_longer_than_60_lines() -> None:
    _none(house.long_functions)


def test_every_public_docstring_is_a_sentence_with_its_subject() -> None:
    _none(house.docstrings_without_a_subject)


def test_local_names_say_what_a_thing_is() -> None:
    _none(house.names_that_say_how_they_were_come_by)


def test_the_private_parts_of_torch_are_used_in_one_file() -> None:
    _none(house.private_parts_of_torch)


def test_there_is_no_magic() -> None:
    _none(house.magic)


def test_what_is_raised_on_purpose_is_an_error_of_ours() -> None:
    _none(house.errors_that_are_not_ours)


def test_no_files_import_each_other_in_a_circle() -> None:
    _none(house.circles)


def _none(check: house.Check) -> None:
    lines = list(check())
    assert not lines, "\n" + "\n".join(lines)


def test_the_two_bindings_have_no_other_name() -> None:
    for path in SOURCE.rglob("*.py"):
        assert not re.search(r"framing", path.read_text(), re.I), path

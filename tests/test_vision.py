"""Importing timm beside minimand, with a stand-in for timm in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODELS = """
registered = []
def is_model(name): return name in ("resnet18", *registered)
def generate_default_cfgs(cfgs): return cfgs
def register_model(function): registered.append(function.__name__)
"""


def _run(folder: Path, code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    package = tmp_path / "timm"
    package.mkdir()
    (package / "__init__.py").write_text("from . import models")
    (package / "models.py").write_text(MODELS)
    (tmp_path / "torchvision.py").write_text("")
    return tmp_path


@pytest.mark.parametrize("order", ["minimand, timm", "timm, minimand"])
def test_models_are_registered_in_either_order(stand_in: Path, order: str) -> None:
    code = f"""
import {order}
found = timm.models.registered
print("apg2_convnext_tiny" in found, "hb_net20" in found, "resnet18" in found, len(found) == len(set(found)))
print(type(timm.__loader__).__name__, "exec_module" in vars(timm.__loader__), timm.__spec__.loader is timm.__loader__)
import importlib
importlib.reload(timm), importlib.reload(minimand)
print(len(found) == len(set(found)))
"""
    assert _run(stand_in, code).splitlines() == ["True True False True", "SourceFileLoader False True", "True"]


def test_minimand_does_not_import_timm(stand_in: Path) -> None:
    assert _run(stand_in, "import sys, minimand; print('timm' in sys.modules, 'torch' in sys.modules)") == "False False"


def test_a_timm_that_fails_fails_as_without_us(stand_in: Path) -> None:
    """Its own error, nothing of it left; and once it works, the models are there."""
    code = f"""
import sys, pathlib, traceback
{{first}}
file = pathlib.Path({str(stand_in)!r}, "timm", "__init__.py")
good, bad = file.read_text(), "from . import models; raise RuntimeError('out of order')"
file.write_text(bad)
try:
    import timm
except RuntimeError as error:
    print(error, [line.name for line in traceback.extract_tb(error.__traceback__)][-1])
print(sorted(name for name in sys.modules if name.startswith("timm")))
file.write_text(good)
import importlib, os
importlib.invalidate_caches()
os.utime(file, (1, 1))
import timm
print(bool(timm.models.registered))
"""
    with_us, without = (
        _run(stand_in, code.replace("{first}", f"import {name}")).splitlines() for name in ("minimand", "json")
    )
    assert with_us[:-1] == without[:-1] == ["out of order <module>", "['timm.models']"]
    assert (with_us[-1], without[-1]) == ("True", "False")


def test_no_timm_is_no_timm(tmp_path: Path) -> None:
    code = """
import sys, minimand
sys.path.clear()
try:
    import timm
except ModuleNotFoundError as error:
    print(error)
"""
    assert _run(tmp_path, code) == "No module named 'timm'"


def test_a_timm_that_does_not_take_the_models_is_a_warning(stand_in: Path) -> None:
    (stand_in / "timm" / "models.py").write_text("")
    code = """
import warnings, minimand
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import timm
print(*[str(w.message) for w in caught])
"""
    assert _run(stand_in, code).startswith("minimand's models are not in timm's registry: ImportError: cannot import")

"""Importing timm beside minimand, with a stand-in for timm in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minimand as mm
from warm_python import run_python

MODELS = """
registered = []
def is_model(name): return name in ("resnet18", *registered)
def generate_default_cfgs(cfgs): return cfgs
def register_model(function): registered.append(function.__name__)
"""


def _run(folder: Path, code: str) -> str:
    return run_python(code, folder, folder, Path(mm.__file__).parents[1]).strip()


def _run_cold(folder: Path, code: str) -> str:
    """What code prints in an interpreter that has not imported torch either."""
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


@pytest.mark.parametrize("order", ["minimand.vision, timm", "timm, minimand", "timm, minimand.vision"])
def test_models_are_registered_in_either_order(stand_in: Path, order: str) -> None:
    code = f"""
import {order}
found = timm.models.registered
print(*[name in found for name in ("apg2_convnext_tiny", "hb_net20", "resnet18", "convnet8")])
import importlib
importlib.reload(timm), importlib.reload(minimand)
print(len(found) == len(set(found)))
"""
    assert _run(stand_in, code).splitlines() == ["True True False False", "True"]


def test_nothing_hooks_into_imports(stand_in: Path) -> None:
    code = """
import sys
before = list(sys.meta_path), list(sys.path_hooks)
import minimand
after = list(sys.meta_path), list(sys.path_hooks)
import torch  # whatever it does
between = list(sys.meta_path), list(sys.path_hooks)
import minimand.vision
print(before == after, between == (list(sys.meta_path), list(sys.path_hooks)))
"""
    assert _run_cold(stand_in, code) == "True True"


@pytest.mark.soak
def test_torchvision_is_mended_after_that_very_error_only(stand_in: Path) -> None:
    mended = 'hasattr(torch.ops.torchvision, "nms")'
    error = "RuntimeError('operator torchvision::nms does not exist')"
    (stand_in / "torchvision.py").write_text(f"import torch\nif not {mended}: raise {error}")
    code = f"import torch, minimand.vision, torchvision, timm; print({mended}, bool(timm.models.registered))"
    assert _run(stand_in, code) == "True True"
    (stand_in / "torchvision.py").write_text("raise RuntimeError('of its own')")
    code = f"""
import torch
try:
    import minimand.vision
except RuntimeError as error:
    print(error, {mended})
"""
    assert _run(stand_in, code) == "of its own False"


def test_minimand_does_not_import_timm(stand_in: Path) -> None:
    code = "import sys, minimand; print('timm' in sys.modules, 'torch' in sys.modules)"
    assert _run_cold(stand_in, code) == "False False"


@pytest.mark.soak
def test_a_timm_that_fails_fails_as_without_us(stand_in: Path) -> None:
    """The error is timm's own, and nothing of it is left; once it works, the models are there."""
    code = f"""
import sys, pathlib, traceback
import {{first}}
file = pathlib.Path({str(stand_in)!r}, "timm", "__init__.py")
good, bad = file.read_text(), "from . import models; raise RuntimeError('out of order')"
file.write_text(bad)
try:
    import {{second}}
except RuntimeError as error:
    print(error, [line.name for line in traceback.extract_tb(error.__traceback__)][-1])
print(sorted(name for name in sys.modules if name.startswith("timm")))
file.write_text(good)
import importlib, os
importlib.invalidate_caches()
os.utime(file, (1, 1))
import {{second}}, timm
print(bool(timm.models.registered))
"""
    orders = (("json", "timm"), ("minimand", "timm"), ("minimand", "minimand.vision"))
    printed = [_run(stand_in, code.format(first=first, second=second)).splitlines() for first, second in orders]
    assert [lines[:-1] for lines in printed] == [["out of order <module>", "['timm.models']"]] * 3
    assert [lines[-1] for lines in printed] == ["False", "False", "True"]


def test_no_timm_is_no_timm(tmp_path: Path) -> None:
    code = """
import importlib, sys, minimand.models.timm_registry
sys.path.clear()
for name in ("timm", "minimand.vision"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        print(error)
"""
    no_timm, no_extra = _run(tmp_path, code).splitlines()
    assert no_timm == "No module named 'timm'"
    assert "pip install 'minimand[vision]'" in no_extra


@pytest.mark.soak
def test_a_timm_that_does_not_take_the_models_is_a_warning(stand_in: Path) -> None:
    (stand_in / "timm" / "models.py").write_text("")
    code = """
import warnings, timm
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import minimand
print(*[str(w.message) for w in caught])
"""
    assert _run(stand_in, code).startswith("minimand's models are not in timm's registry: ImportError: cannot import")


@pytest.mark.parametrize("chained", [False, True])
def test_a_file_of_ones_own_that_meets_the_error_is_told_what_mends_it(stand_in: Path, chained: bool) -> None:
    """In transformers it is the cause of another error."""
    error = "raise RuntimeError('operator torchvision::nms does not exist')"
    wrapped = f"try:\n    {error}\nexcept RuntimeError as e:\n    raise ImportError('Could not import module') from e"
    (stand_in / "torchvision.py").write_text(wrapped if chained else error)
    (stand_in / "net.py").write_text("import torchvision\nclass Net(torchvision.Net): pass\n")
    code = f"""
from pathlib import Path
from minimand._support.names.own_file import name_in_file
try:
    name_in_file(Path({str(stand_in / "net.py")!r}), "Net", "model")
except ValueError as error:
    print(error)
"""
    assert "write `import minimand.vision` before torchvision, timm and transformers" in _run(stand_in, code)

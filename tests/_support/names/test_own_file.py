"""Of somebody's file only what a name needs is run."""

import sys
from pathlib import Path

import pytest

import minimand as mm
from minimand._support.names.own_file import name_in_file

FILE = """
from __future__ import annotations
import math as numbers
from fractions import *
try:
    import nothing_of_this_name
except ImportError:
    nothing_of_this_name = None
A = B = 2
C: int = A + 1
for D in range(3):
    pass
if A:
    def helper(): return inner()
def inner(): return (A, C, D, nothing_of_this_name, numbers.floor(2.5), Fraction(1, 2))
class Base:
    value = C
class Thing(Base):
    def __call__(self) -> "Other": return helper()
class Other: pass
print("run")
X = 1 / 0
class Broken(Thing):
    y = X
"""


def test_what_a_name_needs_is_defined_and_nothing_else_is_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "own.py").write_text(FILE)
    thing = name_in_file(tmp_path / "own.py", "Thing", "thing")
    assert thing()()[:5] == (2, 3, 2, None, 2)
    assert thing.value == 3
    assert name_in_file(tmp_path / "own.py", "Thing", "thing") is thing  # once
    assert name_in_file(tmp_path / "own.py", "Base", "thing") is thing.__mro__[1]  # and the same for another name
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "change",
    [
        "THINGS.append(2)",
        "THINGS += [2]",
        "THINGS[1:] = [2]",
        "for i in (2,):\n    THINGS.append(i)",
        "with open(__file__):\n    THINGS.insert(1, 2)",
    ],
)
def test_what_changes_a_name_in_place_belongs_to_it(change: str, tmp_path: Path) -> None:
    text = (
        f"THINGS = [1]\n{change}\nclass Net:\n    sizes = THINGS\nNet.more = 3\nsetattr(Net, 'most', 4)\nNet().fit()\n"
    )
    (tmp_path / "own.py").write_text(text)
    net = name_in_file(tmp_path / "own.py", "Net", "thing")
    assert (net.sizes, net.more, net.most) == ([1, 2], 3, 4)


def test_a_file_that_says_where_its_modules_are_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside/only_found_beside.py").write_text("size = 3\n")
    (tmp_path / "own.py").write_text(
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, str(Path(__file__).parent / 'beside'))\n"
        "from only_found_beside import size\ndef net(): return size\n"
    )
    assert name_in_file(tmp_path / "own.py", "net", "thing")() == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Thign", "unknown thing in own.py 'Thign'. Did you mean 'Thing'"),
        ("Broken", "own.py does not import: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_defined_is_named(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(FILE)
    with pytest.raises(ValueError, match=message):
        name_in_file(tmp_path / "own.py", name, "thing")
    with pytest.raises(ValueError, match="no thing file"):
        name_in_file(tmp_path / "gone.py", name, "thing")


def test_a_script_that_trains_below_its_class_is_certified_at_once(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import minimand as mm\n"
        "class Half(mm.algorithms.HeavyBall):\n"
        "    momentum: mm.Coefficient = 0.5\n"
        "result = mm.fit(mm.create_model('mlp', Half(), in_channels=2, num_classes=2), 'nested_rings')\n"
        "raise SystemExit\n"
    )
    assert mm.certify(f"{tmp_path}/own.py:Half(momentum=0.25)").consistent

"""A registry finds what is in its folder and what other packages bring, and nothing can break the rest."""

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest
from brought import BROUGHT

import minimand as mm
from minimand._support.errors import MinimandError, WrongTypeError
from minimand._support.names.registry import Registry, instance_of, subclass_of
from warm_python import run_python

Make = Callable[..., Registry[Any]]

_numbers = count()


def _install(folder: Path, name: str, points: dict[str, list[str]]) -> None:
    """What pip leaves behind of a package: its name, version and entry points by group."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = (f"[minimand.{kinds}]\n" + "\n".join(lines) for kinds, lines in points.items())
    (about / "entry_points.txt").write_text("\n\n".join(groups))


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """A registry of things; `files` of its package by path, `points` as lines of entry points, `modules` of others.

    In the text of a file, REGISTRY stands for the line that imports the registry as THINGS.
    """
    before = set(sys.modules)

    def make(files: dict[str, str], points: tuple[str, ...] = (), modules: dict[str, str] = {}, **options: Any) -> Any:  # noqa: B006
        name = f"shelf{next(_numbers)}"
        kinds = f"things_of_{name}"
        texts = {f"{name}/__init__.py": "", **{f"{name}/{path}": text for path, text in files.items()}, **modules}
        for path, text in texts.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(dedent(text).replace("REGISTRY", f"from {name}_registry import THINGS"))
        _install(tmp_path, f"bringer{name}", {kinds: list(points)})
        monkeypatch.syspath_prepend(tmp_path)
        sys.modules[f"{name}_registry"] = module = ModuleType(f"{name}_registry")
        vars(module)["THINGS"] = registry = Registry("thing", kinds, name, **options)
        return registry

    yield make
    for name in set(sys.modules) - before:
        if name.startswith(("shelf", "bringer")):
            del sys.modules[name]


ONE = """
REGISTRY
@THINGS.register("{0}")
def function(size=1):
    '''The thing called {0}.

    And more about it.'''
    return "{0}", size
"""


def test_what_is_in_the_folder_is_registered_at_any_depth(make: Make) -> None:
    files = {"b.py": ONE.format("b"), "deep/__init__.py": "", "deep/a.py": ONE.format("a")}
    things = make({**files, "_helper.py": ONE.format("private"), "empty.py": "x = 1"})
    assert list(things) == ["a", "b"]
    assert len(things) == 2
    assert "private" not in things
    assert things.lines() == {"a": "The thing called a.", "b": "The thing called b."}


def test_names_are_in_the_order_of_their_numbers_whoever_imported_a_file_first(make: Make) -> None:
    names = ["resnet110", "resnet20", "resnet20_wide", "mlp"]
    things = make({f"file{i}.py": ONE.format(name) for i, name in enumerate(names)})
    import_module(f"{things._package}.file0")
    assert list(things) == ["mlp", "resnet20", "resnet20_wide", "resnet110"]


def test_nothing_is_imported_before_the_registry_is_first_asked(make: Make) -> None:
    things = make({"a.py": ONE.format("a")})
    assert f"{things._package}.a" not in sys.modules
    assert "a" in things
    assert f"{things._package}.a" in sys.modules


def test_an_unknown_name_is_an_error_that_names_the_nearest(make: Make) -> None:
    things = make({"a.py": ONE.format("layerwise")})
    with pytest.raises(MinimandError, match=r"unknown thing 'layerwize'. Did you mean 'layerwise'\? Known: layerwise"):
        things.named("layerwize")
    with pytest.raises(MinimandError, match="Did you mean 'layerwise'"):
        things.make("layerwis(size=2)")


def test_a_thing_is_made_from_its_name_with_options(make: Make) -> None:
    things = make({"a.py": ONE.format("a")})
    assert things.make("a") == ("a", 1)
    assert things.make("a(size=3)") == ("a", 3)
    with pytest.raises(MinimandError, match=r"unknown argument of a 'sise'. Did you mean 'size'"):
        things.make("a(sise=3)")


def test_two_of_a_name_are_an_error_and_one_twice_is_not(make: Make) -> None:
    things = make({"a.py": ONE.format("a")})
    assert things.add("a", things["a"]) is things["a"]
    with pytest.raises(MinimandError, match="two things_of_shelf.* of the name 'a'"):
        things.add("a", object())


def test_a_folder_that_does_not_import_says_so_each_time(make: Make) -> None:
    things = make({"a.py": "raise ImportError('a is broken')"})
    for _ in range(2):
        with pytest.raises(ImportError, match="a is broken"):
            list(things)


def test_members_of_a_file_may_be_told_by_their_class(make: Make) -> None:
    things = make({"a.py": "x, y, z = 1, 2, 'z'"}, members=lambda m: {k: v for k, v in vars(m).items() if v in (1, 2)})
    assert dict(things) == {"x": 1, "y": 2}


BRINGER = "class Good:\n    '''A good thing.'''\nnumber = 3\n"


def test_what_another_package_names_is_among_the_rest(make: Make) -> None:
    things = make({"z.py": ONE.format("z")}, ("mine = bringer_a:Good",), {"bringer_a.py": BRINGER})
    assert list(things) == ["mine", "z"]
    assert things.lines()["mine"] == "A good thing."


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("bad = nowhere_at_all", r"'bad' of bringershelf\d+ \(nowhere_at_all\) cannot be used: ModuleNotFoundError"),
        ("bad = bringer_b:Missing", "AttributeError: .*Missing"),
        ("bad = bringer_b:number", "WrongTypeError: 3 is no type; expected one"),
        ("z = bringer_b:Good", "MinimandError: there are two"),
        ("bad = bringer_c:Good", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_broken_entry_point_is_a_warning_and_the_rest_works(make: Make, point: str, message: str) -> None:
    modules = {"bringer_b.py": BRINGER, "bringer_c.py": "1 / 0"}
    things = make({"z.py": ONE.format("z")}, (point, "good = bringer_b:Good"), modules, accepts=instance_of(type))
    with pytest.warns(UserWarning, match=message):
        assert list(things) == ["good", "z"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(things) == ["good", "z"]


def test_a_package_that_asks_while_it_is_imported_gets_its_turn_later(make: Make) -> None:
    text = "REGISTRY\nclass Good:\n    base = THINGS['z']\n"
    things = make({"z.py": ONE.format("z")}, ("mine = bringer_d:Good",), {"bringer_d.py": text})
    good = import_module("bringer_d").Good
    assert good.base is things["z"]
    assert things["mine"] is good


def test_what_is_accepted() -> None:
    subclass_of(int)(bool)
    with pytest.raises(WrongTypeError, match="3 is no int; expected a subclass"):
        subclass_of(int)(3)
    with pytest.raises(WrongTypeError, match="is no int; expected one"):
        instance_of(int)("3")


KINDS = [name.removeprefix("list_") for name in mm.__all__ if name.startswith("list_")]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package of somebody else's that brings a thing of each kind, `scratch_<kinds>`, a file each."""
    folder = tmp_path_factory.mktemp("scratch")
    for kinds in KINDS:
        (folder / f"scratch_{kinds}.py").write_text(dedent(BROUGHT[kinds][1]))
    _install(folder, "scratch", {kinds: [f"scratch_{kinds} = scratch_{kinds}:{BROUGHT[kinds][0]}"] for kinds in KINDS})
    return folder


def _python(folder: Path, code: str) -> str:
    return run_python(code, folder, folder, Path(mm.__file__).parents[1])


def test_a_thing_of_each_kind_that_another_package_brings_is_listed_among_ours(package: Path) -> None:
    listed = "{kinds: getattr(mm, f'list_{kinds}')() for kinds in %r}" % KINDS  # noqa: UP031
    lines = json.loads(_python(package, f"import json, minimand as mm; print(json.dumps({listed}))"))
    for kinds in KINDS:
        assert len(lines[kinds]) > 2
        assert lines[kinds][f"scratch_{kinds}"], kinds
    assert lines["algorithms"]["scratch_algorithms"] == "A heavy ball with little momentum."


@pytest.mark.parametrize("kinds", KINDS)
def test_a_thing_is_listed_too_where_its_file_is_imported_first(package: Path, kinds: str) -> None:
    code = f"import scratch_{kinds}, minimand as mm; print(f'scratch_{kinds}' in mm.list_{kinds}())"
    assert _python(package, code) == "True\n"


def test_a_command_that_another_package_brings_is_run(package: Path) -> None:
    code = "from minimand.cli import main; main(['scratch_commands', '--name', 'Ada'])"
    assert _python(package, code) == "good day, Ada\n"


def test_an_algorithm_that_another_package_brings_is_named_in_text(package: Path) -> None:
    code = """
        from minimand.algorithms import as_algorithm, specification
        text = specification(as_algorithm("scratch_algorithms(momentum=0.125)"))
        print(text, specification(as_algorithm(text, allow_files=False)) == text)
    """
    assert _python(package, dedent(code)) == "scratch_algorithms(step_size=1.0, momentum=0.125) True\n"


OWN_MODEL = "--data scratch_data --model scratch_models --method scratch_methods --scheme scratch_schemes"
OUR_MODEL = 'resnet20(width=4, depth=3, normalization="scratch_normalizations")'


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        (["train", *OWN_MODEL.split(), "--epochs", "1"], "model          scratch_models"),
        pytest.param(
            ["train", "--data", "digits", "--model", OUR_MODEL, "--algorithm", "scratch_algorithms", "--epochs", "1"],
            "algorithm      Halved(step_size=1.0, momentum=0.25)",
            marks=pytest.mark.soak,
        ),
        (["study", "run", "scratch_studies", "--scale", "smoke"], "square 4.00"),
    ],
)
def test_what_another_package_brings_is_trained_and_studied(package: Path, command: list[str], printed: str) -> None:
    run = [*command, "--run", f"{package}/{command[0]}{len(command)}"]
    assert printed in _python(package, f"from minimand.cli import main; main({run!r})")


def test_what_another_package_brings_is_in_the_help_of_the_command_that_takes_it(package: Path) -> None:
    code = "from minimand.cli import main; main([{!r}, '--help'])"
    shown = _python(package, code.format("train")) + _python(package, code.format("study"))
    for kinds in ("algorithms", "methods", "schemes", "normalizations", "models", "data", "studies"):
        assert f"scratch_{kinds}" in shown

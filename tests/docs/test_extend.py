"""The pages of Extend: each file is brought as its page says, and used as its page says."""

import re
import tomllib
from pathlib import Path

import pytest

import minimand as mm
from minimand.training.methods._registry import METHODS
from sweeps import thin
from warm_python import run_python

ROOT = Path(__file__).parents[2]
PAGES = {page.stem: page for page in sorted((ROOT / "docs" / "extend").glob("*.md")) if page.stem != "index"}
KINDS = [name.removeprefix("list_") for name in mm.__all__ if name.startswith("list_")]


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code in a language; those that include a file are left out."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
    return [block for block in blocks if "--8<--" not in block]


def entry_points(page: Path) -> dict[str, dict[str, str]]:
    """What the page has in its pyproject.toml: entry points by group."""
    (toml,) = blocks(page.read_text(), "toml")
    return tomllib.loads(toml)["project"]["entry-points"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package `mine`: every file of the pages, and what pip leaves behind of their pyproject.toml."""
    folder = tmp_path_factory.mktemp("brought")
    (folder / "mine").mkdir()
    (folder / "mine" / "__init__.py").touch()
    for file in (ROOT / "docs" / "extend" / "files").glob("*.py"):
        (folder / "mine" / file.name).write_text(file.read_text())
    about = folder / "mine-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 0.1\n")
    lines = []
    for page in PAGES.values():
        for group, points in entry_points(page).items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("page", thin(PAGES, keep=("algorithm", "method", "study")))
def test_a_thing_is_brought_and_used_as_its_page_says(page: str, package: Path, tmp_path: Path) -> None:
    """In a process of its own, where a warning, as of an entry point that does not load, is an error."""
    code = "\n".join(blocks(PAGES[page].read_text(), "python"))
    printed = run_python(code, tmp_path, package, Path(mm.__file__).parents[1])
    assert re.search(SHOWN[page], printed), printed


SHOWN = {
    "algorithm": r"v = m v - grad(.|\n)*universal +U1(.|\n)*test accuracy 9",
    "method": r"Sharpness-aware(.|\n)*test accuracy(.|\n)*SharpnessAware.*radius.*0\.1",
    "scheme": r"Uniform on(.|\n)*head\.module\.2\.weight +\+-1 / sqrt\(fan_in\) +64 +10",
    "normalization": r"Filter response(.|\n)*BatchNorm2d -> FilterResponseNorm",
    "block": r"Linear-GLU-Linear(.|\n)*\[2, 64\]",
    "model": r"'tower': '3 x 3 convolutions(.|\n)*test accuracy",
    "data": r"spirals: 800 samples of 2, 2 classes, 400 to train, 400 to test(.|\n)*test accuracy 9",
    "recipe": r"Many epochs of AdamW(.|\n)*epochs=20(.|\n)*clip=1.0(.|\n)*test accuracy",
    "study": r"How much momentum(.|\n)*0\.0(.|\n)*0\.9(.|\n)*momentum at smoke scale",
    "command": r"in all: ",
    "solver": r"100 converged; at most \d+ steps(.|\n)*100",
    "gradient": r"jacobian_free +0\.\d+(.|\n)*neumann\(terms=16\) +0\.000",
    "threshold": r"test accuracy(.|\n)*ternary",
    "hook": r"\[\d+\.\d+, \d+\.\d+\]",
}
"""What each page prints, as a pattern."""


def test_every_registry_has_its_page() -> None:
    """Also those kinds that are still to come: the sweep reads what `minimand list` has."""
    groups = {group for page in PAGES.values() for group in entry_points(page)}
    assert groups == {f"minimand.{kinds}" for kinds in [*KINDS, "hooks", "solvers", "gradients", "thresholds"]}
    assert set(SHOWN) == set(PAGES)
    index = (ROOT / "docs" / "extend" / "index.md").read_text()
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert "{{ registries }}" in index
    for page in PAGES:
        assert f"extend/{page}.md" in navigation


def test_every_file_is_on_one_page() -> None:
    included = [
        name
        for page in PAGES.values()
        for name in re.findall(r'^--8<-- "docs/extend/files/(\w+\.py)"$', page.read_text(), re.M)
    ]
    assert sorted(included) == sorted(file.name for file in (ROOT / "docs" / "extend" / "files").glob("*.py"))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_page(name: str) -> None:
    """A page, but for those of the reference and of Extend, names its class or what it is called in text."""
    docs = ROOT / "docs"
    pages = [p.read_text() for p in docs.rglob("*.md") if p.relative_to(docs).parts[0] not in ("api", "extend")]
    names = rf"\bmm\.{METHODS[name].__name__}\b|[\"`]{name}\b|--method \"?{name}\b"
    assert any(re.search(names, page) for page in pages), f"no page of docs/ names {name}"

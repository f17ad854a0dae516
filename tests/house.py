"""What the house tests look for in the source, as lines `path:line: what`; names are looked for in the tests too.

`python tests/house.py FOLDER` writes a file a package in that folder: what is left to do in it.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "minimand"
FILES = {path: ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}

LONGEST_FILE, LONGEST_FUNCTION, SHORTEST_DOCSTRING = 400, 60, 25
MOST_FILES = 15  # in a folder; a registry has as many as there are things
NO_SUBJECT = re.compile(
    r"(It|Its|They|Those|That|Of|With|Within|In|As|At|After|By|How many|How often|"
    r"What it|Whether it|The same|Itself|Not|See)\b"
)
NO_NAMES = {"found", "given", "kept", "asked", "told", "made", "got", "seen"}
PYTHON_ERRORS = {
    "ValueError",
    "TypeError",
    "RuntimeError",
    "NotImplementedError",
    "KeyError",
    "IndexError",
    "Exception",
}
TORCH_INTERNALS = SOURCE / "_support" / "torch" / "internals.py"

Function = ast.FunctionDef | ast.AsyncFunctionDef
Node = TypeVar("Node", bound=ast.AST)
Check = Callable[[], Iterator[str]]


def long_files() -> Iterator[str]:
    for path in FILES:
        lines = len(path.read_text().splitlines())
        if lines > LONGEST_FILE:
            yield f"{_place(path)}: {lines} lines; expected at most {LONGEST_FILE}"


def full_folders() -> Iterator[str]:
    trees = [ROOT / "src", ROOT / "tests", ROOT / "docs"]
    for folder in sorted(path for tree in trees for path in (tree, *tree.rglob("*")) if path.is_dir()):
        files = sum(path.is_file() for path in folder.iterdir())
        if files > MOST_FILES and folder.name != "__pycache__" and not (folder / "_registry.py").exists():
            yield f"{_place(folder)}: {files} files; expected at most {MOST_FILES}, or rooms"


def long_functions() -> Iterator[str]:
    for path, node in _nodes((ast.FunctionDef, ast.AsyncFunctionDef)):
        lines = (node.end_lineno or 0) - node.lineno + 1
        if lines > LONGEST_FUNCTION:
            yield f"{_place(path, node)}: {node.name} has {lines} lines; expected at most {LONGEST_FUNCTION}"


def docstrings_without_a_subject() -> Iterator[str]:
    for path, tree in FILES.items():
        for name, node in _docstrings(tree):
            text = " ".join(str(node.value).split())
            if len(text) < SHORTEST_DOCSTRING or NO_SUBJECT.match(text):
                where = f"{_place(path, node)}: {name or 'the module'}"
                yield f"{where} is {text[:60]!r}; expected a sentence with a subject"


def names_that_say_how_they_were_come_by() -> Iterator[str]:
    tests = {path: ast.parse(path.read_text()) for path in sorted((ROOT / "tests").rglob("*.py"))}
    for path, function in _nodes((ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda), FILES | tests):
        arguments = function.args
        names: list[tuple[str, ast.AST]]
        names = [(a.arg, a) for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        names += [(a.arg, a) for a in (arguments.vararg, arguments.kwarg) if a is not None]
        for node in _inside(function):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.append((node.id, node))
            elif isinstance(node, ast.MatchAs | ast.ExceptHandler) and node.name:
                names.append((node.name, node))
        for name, node in names:
            if name in NO_NAMES:
                yield f"{_place(path, node)}: a local is called {name!r}; expected what it is"


def private_parts_of_torch() -> Iterator[str]:
    """Names below torch that begin with an underscore, and such attributes of modules, tensors and optimizers."""
    private = _private_names()
    for path, tree in FILES.items():
        if path == TORCH_INTERNALS:
            continue
        ours = {n.name for n in ast.walk(tree) if isinstance(n, Function)} | _stored_on_self(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch":
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name.partition(".")[0] == "torch"]
            elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch."):
                names = [ast.unparse(node)]
            elif isinstance(node, ast.Attribute) and node.attr in private - ours:
                names = [f"torch.{node.attr}"]
            elif isinstance(node, ast.Constant) and node.value in private - ours:
                names = [f"torch.{node.value}"]
            elif isinstance(node, Function) and node.name in private and node.name in vars(nn.Module):
                names = [f"torch.{node.name}"]
            else:
                continue
            for name in names:
                if any(re.match("_[^_]", part) for part in name.split(".")):
                    yield f"{_place(path, node)}: {name} is private to torch; expected it in {TORCH_INTERNALS.name}"


def magic() -> Iterator[str]:
    for path, node in _nodes((ast.AST,)):
        if path == TORCH_INTERNALS:
            continue
        if isinstance(node, ast.Attribute) and node.attr == "__class__" and isinstance(node.ctx, ast.Store):
            yield f"{_place(path, node)}: __class__ is assigned"
        elif isinstance(node, ast.Attribute) and node.attr == "meta_path":
            yield f"{_place(path, node)}: sys.meta_path is used"
        elif isinstance(node, ast.Import | ast.ImportFrom) and "linecache" in ast.unparse(node):
            yield f"{_place(path, node)}: linecache is used"


def errors_that_are_not_ours() -> Iterator[str]:
    """Errors of Python raised where a person is meant to read them; the OSError family and AttributeError may be."""
    for path, node in _nodes((ast.Raise,)):
        name = ast.unparse(node.exc.func) if isinstance(node.exc, ast.Call) else ""
        if name in PYTHON_ERRORS:
            yield f"{_place(path, node)}: raises {name}; expected a MinimandError"


def circles() -> Iterator[str]:
    for circle in _strongly_connected({_module(path): _imports(path) for path in FILES}):
        path = next(path for path in FILES if _module(path) == circle[0])
        yield f"{_place(path)}: these files import each other: {', '.join(circle)}"


CHECKS: tuple[Check, ...] = (
    long_files,
    full_folders,
    long_functions,
    docstrings_without_a_subject,
    names_that_say_how_they_were_come_by,
    private_parts_of_torch,
    magic,
    errors_that_are_not_ours,
    circles,
)


def _place(path: Path, node: ast.AST | None = None) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def _nodes(kinds: tuple[type[Node], ...], files: dict[Path, ast.Module] = FILES) -> Iterator[tuple[Path, Node]]:
    for path, tree in files.items():
        for node in ast.walk(tree):
            if isinstance(node, kinds):
                yield path, node


def _inside(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function that are in no function inside it."""
    for child in ast.iter_child_nodes(function):
        yield child
        if not isinstance(child, Function | ast.Lambda | ast.ClassDef):
            yield from _inside(child)


def _docstrings(node: ast.AST, name: str = "") -> Iterator[tuple[str, ast.Constant]]:
    """The docstrings of public things below a node, those of attributes included, with their dotted names."""
    body = getattr(node, "body", [])
    for i, (before, child) in enumerate(zip([None, *body], body, strict=False)):
        text = child.value if isinstance(child, ast.Expr) else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            if isinstance(before, ast.Assign | ast.AnnAssign) and not isinstance(node, Function):
                target = before.target if isinstance(before, ast.AnnAssign) else before.targets[0]
                if not ast.unparse(target).startswith("_"):
                    yield f"{name}.{ast.unparse(target)}".strip("."), text
            elif i == 0:
                yield name, text
        elif isinstance(child, ast.ClassDef | Function) and not isinstance(node, Function):
            inside = "" if re.match("_[^_]", child.name) else f"{name}.{child.name}".strip(".")
            if inside:
                yield from _docstrings(child, inside)


def _private_names() -> set[str]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    things: tuple[Any, ...] = (nn.Module(), nn.ModuleList(), torch.zeros(1), optimizer)
    return {name for thing in things for name in dir(thing) if re.match("_[^_]", name)}


def _stored_on_self(tree: ast.Module) -> set[str]:
    stored = (n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store))
    return {n.attr for n in stored if isinstance(n.value, ast.Name) and n.value.id == "self"}


def _module(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> set[str]:
    """The files that a file imports by name, in functions too, but not those for type checkers alone.

    A file also imports the `__init__` of its packages; that is left out, as these only say where public names are.
    """
    known = {_module(other) for other in FILES}
    package = _module(path) if path.name == "__init__.py" else _module(path).rpartition(".")[0]
    imported: set[str] = set()
    for node in _run(FILES[path]):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                imported.add(whole if whole in known else base)
    return imported & known - {_module(path)}


def _run(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _run(other)
        else:
            yield child
            yield from _run(child)


def _strongly_connected(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of two nodes or more that can all be reached from each other (Tarjan 1972)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for neighbour in sorted(graph[node]):
            if neighbour not in index:
                visit(neighbour)
                lowest[node] = min(lowest[node], lowest[neighbour])
            elif neighbour in stack:
                lowest[node] = min(lowest[node], index[neighbour])
        if lowest[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                components.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return components


def main(folder: Path) -> None:
    """Write what is left to do in each package, and print how much of each kind there is."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.txt"):
        old.unlink()
    for check in CHECKS:
        lines = list(check())
        print(f"{len(lines):5}  {check.__name__}")
        for line in lines:
            package = line.partition(":")[0].removeprefix("src/minimand/").partition("/")[0].removesuffix(".py")
            with (folder / f"{package}.txt").open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Somebody's file: one name of it is defined, by the statements that it needs, and what else the file does is not run.

So a script that defines a class and trains it below can be named in commands without training anything.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import MinimandError, unknown_name
from ..torch.torchvision_error import MENDED, is_torchvision_without_cuda

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_executed: dict[str, set[int]] = {}
"""The numbers of the statements of each module that were run."""
_CHANGING = {"add", "append", "clear", "discard", "extend", "insert", "load_state_dict", "pop", "popitem", "remove"}
_CHANGING |= {"reverse", "setdefault", "sort", "update"}
"""The methods of containers and modules that change what they are called on."""


def name_in_file(path: Path, name: str, what: str) -> Any:
    """The object of a name in a file, of which only what the name needs is run, once while the file is unchanged.

    `what` is the kind of thing that it should be, for errors.

    Raises:
        MinimandError: no such file, no such name in it, or code that raises.
    """
    if not path.is_file():
        raise MinimandError(f"no {what} file {str(path)!r}.")
    path = path.resolve()
    # A file that was changed is another module; Python's own cache would tell it by its length and the second.
    source = path.read_bytes()
    module_name = f"minimand_user_{path.stem}_{hashlib.sha1(str(path).encode() + source).hexdigest()[:8]}"
    try:
        statements = ast.parse(source, path).body
    except (SyntaxError, ValueError) as error:
        raise MinimandError(f"{path} does not import: {type(error).__name__}: {error}") from None
    bound = [_bound(statement) for statement in statements]
    if not any(name in names for names in bound):
        own = [statement.name for statement in statements if isinstance(statement, _Definition)]
        raise unknown_name(f"{what} in {path.name}", name, own)
    module = sys.modules.get(module_name)
    if module is None:
        module = sys.modules[module_name] = ModuleType(module_name)
        module.__file__ = str(path)
    numbers = _needed(name, statements, bound) - _executed.setdefault(module_name, set())
    try:
        tree = ast.Module([statements[i] for i in sorted(numbers)], [])
        exec(compile(tree, path, "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module_name], _executed[module_name]
        remedy = f" {MENDED}" if is_torchvision_without_cuda(error) else ""
        raise MinimandError(f"{path} does not import: {type(error).__name__}: {error}{remedy}") from error
    _executed[module_name] |= numbers
    return getattr(module, name)


def _needed(name: str, statements: list[ast.stmt], bound: list[set[str]]) -> set[int]:
    """The numbers of the statements that define a name, and all that they need in turn."""
    by_name: dict[str, list[int]] = {}
    for i, names in enumerate(bound):
        for each in names:
            by_name.setdefault(each, []).append(i)
    numbers = {i for i, statement in enumerate(statements) if _is_always_run(statement)}
    waiting = [name, *(each for i in numbers for each in _read(statements[i]))]
    visited: set[str] = set()
    while waiting:
        if (each := waiting.pop()) not in visited:
            visited.add(each)
            new = set(by_name.get(each, ())) - numbers
            numbers |= new
            waiting += [other for i in new for other in _read(statements[i])]
    return numbers


def _is_always_run(statement: ast.stmt) -> bool:
    """Whether a statement binds names that it does not spell out, or decides how the others are read or found."""
    if isinstance(statement, ast.ImportFrom):
        return statement.module == "__future__" or any(alias.name == "*" for alias in statement.names)
    return any(ast.unparse(part).startswith("sys.path") for part in _changed(statement))


def _changed(statement: ast.stmt) -> Iterator[ast.expr]:
    """What a statement changes in place: `X` of `X[0] = 1`, of `X.a = 1`, of `X.append(1)` and of `setattr(X, "a", 1)`.

    Calls of other methods and functions change nothing here: a script calls its model to train it.
    """
    if isinstance(statement, _Definition):
        return
    for node in _same_scope(statement):
        match node:
            case ast.Attribute(ctx=ast.Store() | ast.Del()):
                yield node
            case ast.Subscript(value=part, ctx=ast.Store() | ast.Del()):
                yield part
            case ast.Call(ast.Attribute(part, name)) if name in _CHANGING:
                yield part
            case ast.Call(ast.Name("setattr" | "delattr"), [part, *_]):
                yield part


def _root(part: ast.expr) -> str:
    """The name that an attribute or an item of something begins with."""
    while isinstance(part, ast.Attribute | ast.Subscript):
        part = part.value
    return part.id if isinstance(part, ast.Name) else ""


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement at the top of a file binds, or whose value it changes in place."""
    return _assigned(statement) | {_root(part) for part in _changed(statement)} - {""}


def _assigned(statement: ast.AST) -> set[str]:
    if isinstance(statement, _Definition):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    return {
        name
        for node in _same_scope(statement)
        for name in (
            {node.id}
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            else _assigned(node)
            if isinstance(node, _Definition | ast.Import | ast.ImportFrom)
            else set[str]()
        )
    }


def _same_scope(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below a node, but for what is inside functions and classes."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, _Definition | ast.Lambda):
            yield from _same_scope(child)


def _read(statement: ast.stmt) -> set[str]:
    """The names that a statement may look up, in functions and in annotations in quotes too."""
    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            names.add(node.id)
        annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            try:
                names |= {part.id for part in ast.walk(ast.parse(annotation.value)) if isinstance(part, ast.Name)}
            except SyntaxError:
                continue
    return names

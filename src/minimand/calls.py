"""Text such as `heavy_ball(momentum=0.9)`: a name with literal arguments, read without evaluating anything."""

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from .names import unknown_name


def parse_call(
    text: str, what: str, makers: Mapping[str, Callable[..., Any]] | None = None
) -> tuple[str, dict[str, Any]]:
    """The name and the keyword arguments of a call.

    Args:
        text: `name` or `name(key=literal, ...)`.
        what: what the text names, for errors: 'algorithm'.
        makers: functions that may stand among the literals, by name.
    """
    expected = "expected a name, or a name with literals such as name(key=0.9)"
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(f"cannot read the {what} {text!r}; {expected}.") from None
    if isinstance(tree, ast.Name):
        return tree.id, {}
    if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args):
        raise ValueError(f"cannot read the {what} {text!r}; {expected}.")
    return tree.func.id, _named(tree, text, makers or {})


def file_name(text: str) -> str:
    """Such text as part of a file's name."""
    return re.sub(r"[^a-z0-9.-]+", "_", text.lower()).strip("_")


def _named(call: ast.Call, text: str, makers: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in found:
            what = "** instead of a name" if keyword.arg is None else f"{keyword.arg} twice"
            raise ValueError(f"cannot read {text!r}: it has {what}; expected each argument once, by its name.")
        found[keyword.arg] = _literal(keyword.value, text, makers)
    return found


def _literal(node: ast.expr, text: str, makers: Mapping[str, Callable[..., Any]]) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers:
        positional = [_literal(argument, text, makers) for argument in node.args]
        named = _named(node, text, makers)
        try:
            return makers[node.func.id](*positional, **named)
        except TypeError as error:
            raise ValueError(f"cannot read {ast.unparse(node)!r}: {error}.") from None
    try:
        return ast.literal_eval(node)
    except ValueError:
        also = "".join(f" or {name}(...)" for name in makers)
        raise ValueError(f"cannot read {ast.unparse(node)!r} in {text!r}; expected a literal{also}.") from None


def call_with(function: Callable[..., Any], arguments: Mapping[str, Any], what: str) -> Any:
    """`function(**arguments)`; an argument that it does not take is an error that names the nearest one."""
    known = list(inspect.signature(function).parameters)
    for name in arguments:
        if name not in known:
            raise unknown_name(f"argument of {what}", name, known)
    return function(**arguments)

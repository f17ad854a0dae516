"""Text such as `heavy_ball(momentum=0.9)`: a name with literal arguments, read without evaluating anything."""

import ast
import inspect
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
    return tree.func.id, {str(k.arg): _literal(k.value, text, makers or {}) for k in tree.keywords}


def _literal(node: ast.expr, text: str, makers: Mapping[str, Callable[..., Any]]) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers:
        positional = [_literal(argument, text, makers) for argument in node.args]
        named = {str(k.arg): _literal(k.value, text, makers) for k in node.keywords}
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

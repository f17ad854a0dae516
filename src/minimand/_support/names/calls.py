"""Text such as `heavy_ball(momentum=0.9)`: a name with literal arguments, read without evaluating anything."""

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import MinimandError, WrongTypeError, unknown_name

Makers = Mapping[str, Callable[..., Any]]
_LONGEST = 10_000  # characters of a specification


def parse_call(text: str, what: str, makers: Makers | None = None) -> tuple[str, dict[str, Any]]:
    """The name and the keyword arguments of `name` or `name(key=literal, ...)`, `what` of which is text in errors.

    A word without quotes is text: `gpt_nano(memory=reversible)`. Functions in `makers` may stand among the literals, by
    their name.
    """
    expected = "expected a name, or a name with literals such as name(key=0.9)"
    if not isinstance(text, str):
        raise WrongTypeError(f"the {what} is {text!r}; {expected}.")
    if len(text) > _LONGEST:
        raise MinimandError(f"the {what} has {len(text):,} characters; expected at most {_LONGEST:,}.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # of text that is nested deep, or has null bytes
        tree = None
    match tree:
        case ast.Name(name):
            return name, {}
        case ast.Call(ast.Name(name), []):
            return name, _named(tree, text, makers or {})
    shown = text if len(text) <= 200 else f"{text[:200]}..."
    raise MinimandError(f"cannot read the {what} {shown!r}; {expected}.")


def file_name(text: str) -> str:
    """Text such as `heavy_ball(momentum=0.9)` as part of a file's name."""
    return re.sub(r"[^a-z0-9.-]+", "_", text.lower()).strip("_")


def _named(call: ast.Call, text: str, makers: Makers) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in arguments:
            what = "** instead of a name" if keyword.arg is None else f"{keyword.arg} twice"
            raise MinimandError(f"cannot read {text!r}: it has {what}; expected each argument once, by its name.")
        arguments[keyword.arg] = _literal(keyword.value, text, makers)
    return arguments


def _literal(node: ast.expr, text: str, makers: Makers) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers:
        positional = [_literal(argument, text, makers) for argument in node.args]
        named = _named(node, text, makers)
        try:
            return makers[node.func.id](*positional, **named)
        except TypeError as error:
            raise MinimandError(f"cannot read {ast.unparse(node)!r}: {error}.") from None
    if isinstance(node, ast.Name) and node.id not in makers:
        return node.id  # a word, which a shell may have taken the quotes from
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):  # a TypeError of {{}}, which cannot be in a set
        also = "".join(f" or {name}(...)" for name in makers)
        raise MinimandError(f"cannot read {ast.unparse(node)!r} in {text!r}; expected a literal{also}.") from None


def call_with(function: Callable[..., Any], arguments: Mapping[str, Any], what: str) -> Any:
    """Call a function with arguments by name; one that it does not take is an error that names the nearest."""
    known = list(inspect.signature(function).parameters)
    for name in arguments:
        if name not in known:
            raise unknown_name(f"argument of {what}", name, known)
    return function(**arguments)


def make_named(text: str, what: str, makers: Makers) -> Any:
    """Call the maker of a name with the arguments after it, as in `name(key=literal, ...)`."""
    name, arguments = parse_call(text, what)
    if name not in makers:
        raise unknown_name(what, name, makers)
    return call_with(makers[name], arguments, name)

"""Algorithms by name: the built-in ones, and a user's own from a file."""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path

from .._support.calls import call_with, parse_call, run_file
from .._support.errors import MinimandError, WrongTypeError, unknown_name
from ._algorithm import Algorithm
from ._coefficient import Learnable


def _builtin() -> dict[str, type[Algorithm]]:
    package = __name__.rpartition(".")[0]
    found = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not module.name.startswith("_"):
            path = f"{package}.{module.name}"
            for value in vars(import_module(path)).values():
                if inspect.isclass(value) and issubclass(value, Algorithm) and value.__module__ == path:
                    found[value.name()] = value
    return found


builtin = _builtin()
"""Every algorithm of this package by name: one public file each, found by being there."""


def as_algorithm(value: "Algorithm | type[Algorithm] | str", allow_files: bool = True) -> Algorithm:
    """The algorithm that `value` stands for.

    Args:
        value: an algorithm, a class of one, or text: a registry name (`heavy_ball`, `HeavyBall`) or
            `path/to/file.py:MyMethod`, optionally with coefficients as literals:
            `heavy_ball(momentum=0.9)`, `heavy_ball(momentum=Learnable(0.5, 0, 1))`. Nothing is evaluated.
        allow_files: whether text may name a file, whose code then runs. False for text that a folder gave.

    Raises:
        ValueError: unknown name, unreadable text, a file that does not import or lacks the class.
        TypeError: something that is no algorithm.
    """
    if isinstance(value, Algorithm):
        return value
    if isinstance(value, str):
        return _from_text(value.strip(), allow_files)
    if inspect.isclass(value) and issubclass(value, Algorithm):
        return value()
    raise WrongTypeError(f"{value!r} is no algorithm; expected an mm.Algorithm or a name such as 'heavy_ball'.")


def specification(algorithm: Algorithm) -> str:
    """Text from which `as_algorithm` makes a built-in algorithm again (schedules excepted: they are code).

    An algorithm of one's own is marked as such, `own:MyMethod(...)`: a file never names what code is to run, and
    one's own `HeavyBall` is not the built-in one.
    """
    cls, arguments = type(algorithm), repr(algorithm).partition("(")[2]
    return f"{cls.name() if builtin.get(cls.name()) is cls else _OWN + cls.__name__}({arguments}"


_OWN = "own:"


def is_own(specified: str) -> bool:
    """Whether a `specification` is of an algorithm that is not built in."""
    return specified.startswith(_OWN)


def _from_text(text: str, allow_files: bool) -> Algorithm:
    source, _, call = text.rpartition(".py:")
    if not allow_files and (source or is_own(text)):
        raise MinimandError(
            f"the algorithm {text!r} is your own, and a folder never decides what code runs; give it again: pass "
            "algorithm=, or --algorithm path/to/file.py:MyMethod on the command line."
        )
    if not source and ":" in text:
        raise MinimandError(f"cannot read the algorithm {text!r}; expected a name, or path/to/file.py:MyMethod.")
    try:
        name, coefficients = parse_call(call, "algorithm", {"Learnable": Learnable})
    except ValueError as error:
        if allow_files:
            raise
        raise MinimandError(
            f"{error} A coefficient that is a function is code, which no folder keeps: pass algorithm=."
        ) from None
    cls = _load(Path(f"{source}.py"), name) if source else _by_name(name)
    return call_with(cls, coefficients, cls.__name__)


def _by_name(name: str) -> type[Algorithm]:
    for key, cls in builtin.items():
        if name in (key, cls.__name__):
            return cls
    raise unknown_name("algorithm", name, builtin)


def _load(path: Path, name: str) -> type[Algorithm]:
    module_name, found = run_file(path, "algorithm")
    algorithms = [key for key, value in found.items() if inspect.isclass(value) and issubclass(value, Algorithm)]
    if name not in found:
        own = [key for key in algorithms if found[key].__module__ == module_name]
        raise unknown_name(f"algorithm in {path.name}", name, own)
    if name not in algorithms:
        raise WrongTypeError(f"{name} in {path.name} is no algorithm; expected a subclass of minimand.Algorithm.")
    return found[name]

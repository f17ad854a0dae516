"""Algorithms by name: those of the registry, and a user's own from a file."""

import inspect
from pathlib import Path
from types import ModuleType

from .._support.errors import MinimandError, WrongTypeError
from .._support.names.calls import call_with, parse_call
from .._support.names.own_file import name_in_file
from .._support.names.registry import Registry, subclass_of
from ._algorithm import Algorithm
from ._coefficient import Drawn, Learnable


def _members(module: ModuleType) -> dict[str, type[Algorithm]]:
    classes = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, Algorithm)]
    return {cls.name(): cls for cls in classes if cls.__module__ == module.__name__}


ALGORITHMS: Registry[type[Algorithm]] = Registry(
    "algorithm", "algorithms", __package__ or "", subclass_of(Algorithm), members=_members
)
"""Every algorithm by name: a public file of this package each, and what other packages bring."""


def list_algorithms() -> dict[str, str]:
    """A line about each algorithm, by name."""
    return ALGORITHMS.lines()


def as_algorithm(value: "Algorithm | type[Algorithm] | str", allow_files: bool = True) -> Algorithm:
    """The algorithm that `value` stands for.

    Args:
        value: an algorithm, a class of one, or text: a registry name (`heavy_ball`, `HeavyBall`) or
            `path/to/file.py:MyMethod`, optionally with coefficients as literals:
            `heavy_ball(momentum=0.9)`, `heavy_ball(momentum=Learnable(0.5, 0, 1))`. Nothing is evaluated.
        allow_files: whether text may name a file, whose code then runs. False for text that a folder gave.

    Raises:
        MinimandError: unknown name, unreadable text, a file that does not import or lacks the class.
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
    """Text from which `as_algorithm` makes an algorithm of the registry again (schedules excepted: they are code).

    An algorithm of one's own is marked as such, `own:MyMethod(...)`: a file never names what code is to run, and
    one's own `HeavyBall` is not the registered one.
    """
    cls, arguments = type(algorithm), repr(algorithm).partition("(")[2]
    name = next((name for name, known in ALGORITHMS.items() if known is cls), _OWN + cls.__name__)
    return f"{name}({arguments}"


_OWN = "own:"


def is_own(specified: str) -> bool:
    """Whether a `specification` is of an algorithm that is not in the registry."""
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
        name, coefficients = parse_call(call, "algorithm", {"Learnable": Learnable, "Drawn": Drawn})
    except ValueError as error:
        if allow_files:
            raise
        raise MinimandError(
            f"{error} A coefficient that is a function is code, which no folder keeps: pass algorithm=."
        ) from None
    cls = _load(Path(f"{source}.py"), name) if source else _by_name(name)
    return call_with(cls, coefficients, cls.__name__)


def _by_name(name: str) -> type[Algorithm]:
    return next((cls for cls in ALGORITHMS.values() if cls.__name__ == name), None) or ALGORITHMS.named(name)


def _load(path: Path, name: str) -> type[Algorithm]:
    algorithm = name_in_file(path, name, "algorithm")
    if not (inspect.isclass(algorithm) and issubclass(algorithm, Algorithm)):
        raise WrongTypeError(f"{name} in {path.name} is no algorithm; expected a subclass of minimand.Algorithm.")
    return algorithm

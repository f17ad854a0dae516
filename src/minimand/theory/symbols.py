"""Linear combinations: the states and answers of an algorithm that is read as mathematics."""

import inspect
import os
from collections.abc import Callable, Hashable, Mapping
from operator import add, mul, sub, truediv
from typing import Any

from .._support.errors import MinimandError
from .scalars import Number, is_scalar

# How many terms of a combination are printed.
_SHOWN = 4


class NonlinearStepError(MinimandError):
    """A step that is not linear in states and answers; the message names the operation and the line."""


class Combination:
    """A linear combination of atoms: the input, the answers so far, or the entries of a state.

    It supports what a linear step needs: sums, and products with numbers. Anything else raises
    `NonlinearStepError` with the operation and the line of the step that asked for it.
    """

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[Hashable, Number]) -> None:
        self.terms = {atom: c for atom, c in terms.items() if c}

    @staticmethod
    def atom(atom: Hashable) -> "Combination":
        """The combination that is an atom itself."""
        return Combination({atom: Number.of(1)})

    def coefficient(self, atom: Hashable) -> Number:
        """The coefficient of an atom; 0 where it does not occur."""
        return self.terms.get(atom, Number.of(0))

    @property
    def exact(self) -> bool:
        """Whether all coefficients of the combination are exact, none of them rounded."""
        return all(c.exact for c in self.terms.values())

    def same(self, other: "Combination") -> bool:
        """Whether all coefficients of both combinations agree."""
        atoms = self.terms.keys() | other.terms.keys()
        return all(self.coefficient(a).same(other.coefficient(a)) for a in atoms)

    def substitute(self, replacement: Callable[[Hashable], "Combination | None"]) -> "Combination":
        """The combination with every atom replaced for which `replacement` gives a combination."""
        result = Combination({})
        for atom, c in self.terms.items():
            substituted = replacement(atom)
            result = result + c * (Combination.atom(atom) if substituted is None else substituted)
        return result

    def __add__(self, other: Any) -> "Combination":
        if not isinstance(other, Combination):
            if is_scalar(other) and not Number.of(other):
                return self  # sum() begins with 0
            raise _nonlinear(f"adds {_kind(other)} to a state")
        total = Combination({})
        total.terms = terms = dict(self.terms)
        for atom, c in other.terms.items():
            if atom not in terms:
                terms[atom] = c
            elif both := terms[atom] + c:
                terms[atom] = both
            else:
                del terms[atom]
        return total

    def __mul__(self, other: Any) -> "Combination":
        if isinstance(other, Combination):
            raise _nonlinear("multiplies a state or an answer by another")
        if not is_scalar(other):
            raise _nonlinear(f"multiplies a state by {_kind(other)}")
        other = Number.of(other)
        return Combination({atom: c * other for atom, c in self.terms.items()})

    def __truediv__(self, other: Any) -> "Combination":
        if isinstance(other, Combination):
            raise _nonlinear("divides a state or an answer by another")
        if not is_scalar(other):
            raise _nonlinear(f"divides a state by {_kind(other)}")
        other = Number.of(other)
        return Combination({atom: c / other for atom, c in self.terms.items()})

    def __rtruediv__(self, other: Any) -> "Combination":
        raise _nonlinear("divides by a state")

    def __neg__(self) -> "Combination":
        return Combination({atom: -c for atom, c in self.terms.items()})

    def __pos__(self) -> "Combination":
        return self

    def __sub__(self, other: Any) -> "Combination":
        return self + (-other)

    def __rsub__(self, other: Any) -> "Combination":
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __repr__(self) -> str:
        shown = [_term(c, atom) for atom, c in self.terms.items()]
        text = " ".join([*shown[:_SHOWN], "..."] if len(shown) > _SHOWN else shown)
        return text.removeprefix("+ ") or "0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise _nonlinear(f"uses .{name} of a state")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # torch asks for this method before it rejects a foreign argument; no import of torch is needed.
        raise _nonlinear(f"calls torch.{getattr(function, '__name__', function)} on a state")

    def __array_ufunc__(self, ufunc: Any, method: str, *arguments: Any, **kwargs: Any) -> Any:
        # A numpy scalar to the left of a state asks its own ufunc first.
        operation = {"add": add, "subtract": sub, "multiply": mul, "divide": truediv}.get(ufunc.__name__)
        if operation is None or not is_scalar(arguments[0]):
            raise _nonlinear(f"calls numpy.{ufunc.__name__} on a state")
        return operation(Number.of(arguments[0]), arguments[1])


def _forbid(method: str, does: str) -> None:
    def refuse(self: Combination, *args: Any) -> Any:
        raise _nonlinear(does)

    setattr(Combination, method, refuse)


for _does, _methods in {
    "branches on the value of a state": "bool",
    "compares a state": "eq ne lt le gt ge",
    "takes the absolute value of a state": "abs",
    "raises a state to a power": "pow",
    "uses a state as an exponent": "rpow",
    "multiplies a state by a matrix": "matmul rmatmul",
    "takes the remainder of a state": "mod",
    "rounds a state": "floordiv round divmod",
    "turns a state into a number": "float int",
    "changes a state in place (write x = x + ...)": "iadd",
    "changes a state in place (write x = x - ...)": "isub",
    "changes a state in place (write x = c * x)": "imul",
    "changes a state in place (write x = x / c)": "itruediv",
    "inverts the bits of a state": "invert",
    "asks for the length of a state": "len",
    "iterates over a state": "iter",
    "indexes a state": "getitem",
    "calls a state": "call",
}.items():
    for _method in _methods.split():
        _forbid(f"__{_method}__", _does)


def _is_library(file: str) -> bool:
    """Whether a frame is this file's, or torch's or numpy's on the way here."""
    return file == __file__ or any(f"{os.sep}{package}{os.sep}" in file for package in ("torch", "numpy"))


def _term(c: Number, atom: Hashable) -> str:
    text = str(c)
    sign, size = ("-", text[1:]) if text.startswith("-") else ("+", text)
    return f"{sign} {atom}" if size == "1" else f"{sign} {size} {atom}"


def _kind(value: Any) -> str:
    return f"the constant {value!r}" if is_scalar(value) else f"a {type(value).__name__}"


def _nonlinear(does: str) -> NonlinearStepError:
    frame = inspect.currentframe()
    assert frame is not None  # CPython has frames
    while frame.f_back is not None and _is_library(frame.f_code.co_filename):
        frame = frame.f_back
    where = f"{frame.f_code.co_qualname}, {frame.f_code.co_filename}:{frame.f_lineno}"
    return NonlinearStepError(
        f"not linear: it {does} ({where}). A step may add states and answers and multiply them by "
        "coefficients (0 * x is zero); whatever is nonlinear belongs in the block."
    )

"""Registries: the things of one kind by name, found by being in a folder or by entry points of other packages.

A file in its folder registers what it holds when it is imported; another package names its own things in the
entry-point group `minimand.<kinds>`. Nothing is imported before a registry is first asked.
"""

import pkgutil
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from ..errors import MinimandError, WrongTypeError, unknown_name
from .calls import make_named

T = TypeVar("T")
Named = TypeVar("Named")


def first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0]


class Registry(Mapping[str, T], Generic[T]):
    """The things of one kind by name, as a mapping in the order of their names.

    Args:
        kind: what one of them is called in messages: "method".
        kinds: what they are called together: "methods"; the entry-point group is `minimand.methods`.
        package: the dotted name of the package in whose folder, at any depth, their files are.
        accepts: raises MinimandError for what is not of this kind; applied to what other packages bring.
        about: a line about one of them; by default the first line of its docstring.
        members: the things in a file of the folder by name, where they are told by their class and register nothing.
    """

    def __init__(
        self,
        kind: str,
        kinds: str,
        package: str,
        accepts: Callable[[Any], None] = lambda thing: None,
        about: Callable[[T], str] = first_line,
        members: Callable[[ModuleType], Mapping[str, T]] = lambda module: {},
    ) -> None:
        self.kind, self.kinds = kind, kinds
        self._package, self._accepts, self._about, self._members = package, accepts, about, members
        self._things: dict[str, T] = {}
        self._is_loaded = False
        self._points: list[EntryPoint] = []

    def add(self, name: str, thing: T) -> T:
        """Register a thing under a name that no other has, and return it."""
        if self._things.get(name, thing) is not thing:
            raise MinimandError(f"there are two {self.kinds} of the name {name!r}; expected another name for one.")
        self._things[name] = thing
        return thing

    def register(self, name: str) -> Callable[[Named], Named]:
        """A decorator that registers a function or class under a name."""
        return cast(Callable[[Named], Named], partial(self.add, name))

    def named(self, name: str) -> T:
        """The thing of a name; raises MinimandError that names the nearest."""
        known = self._all()
        if name not in known:
            raise unknown_name(self.kind, name, known)
        return known[name]

    def make(self, text: str) -> Any:
        """Call the function or class of a name with the options after it: `layerwise(hidden_layers=2)`."""
        return make_named(text, self.kind, cast(Mapping[str, Callable[..., Any]], self))

    def lines(self) -> dict[str, str]:
        """A line about each thing, by name."""
        return {name: self._about(thing) for name, thing in self._all().items()}

    def __getitem__(self, name: str) -> T:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, T]:
        if not self._is_loaded:
            self._is_loaded = True
            try:
                self._load_folder()
            except BaseException:
                self._is_loaded = False
                raise
            self._points = list(entry_points(group=f"minimand.{self.kinds}"))
        if self._points:
            points, self._points = self._points, []
            for point in points:
                self._load_entry_point(point)
            self._sort()
        return self._things

    def _load_folder(self) -> None:
        package = import_module(self._package)
        for module in pkgutil.walk_packages(package.__path__, f"{self._package}."):
            if not module.name.rpartition(".")[2].startswith("_"):
                for name, thing in self._members(import_module(module.name)).items():
                    self.add(name, thing)
        self._sort()

    def _load_entry_point(self, point: EntryPoint) -> None:
        """Add what another package brings; one that cannot be had is a warning, as all the others work without it.

        Where that package's module is being imported right now, as it uses this registry, its turn comes later.
        """
        try:
            if _is_being_imported(point.module):
                self._points.append(point)
            else:
                thing = point.load()
                self._accepts(thing)
                self.add(point.name, thing)
        except Exception as error:
            owner = point.dist.name if point.dist else "an unknown package"
            warnings.warn(
                f"the {self.kind} {point.name!r} of {owner} ({point.value}) cannot be used: "
                f"{type(error).__name__}: {error}",
                stacklevel=4,
            )

    def _sort(self) -> None:
        """Order the things by name: whoever imported a file before us does not decide the order."""
        ordered = sorted(self._things.items(), key=_in_numbers)
        self._things.clear()
        self._things.update(ordered)


def _is_being_imported(module: str) -> bool:
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return getattr(spec, "_initializing", False)


def _in_numbers(named: tuple[str, Any]) -> list[tuple[int, str]]:
    """A key that sorts names by letters, and by the size of the numbers in them: resnet20 before resnet110."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", named[0]) if part]


def subclass_of(kind: type) -> Callable[[Any], None]:
    """An `accepts` for a `Registry` whose things are subclasses of a class."""

    def accepts(thing: Any) -> None:
        if not (isinstance(thing, type) and issubclass(thing, kind)):
            raise WrongTypeError(f"{thing!r} is no {kind.__name__}; expected a subclass of it.")

    return accepts


def instance_of(kind: type) -> Callable[[Any], None]:
    """An `accepts` for a `Registry` whose things are objects of a class."""

    def accepts(thing: Any) -> None:
        if not isinstance(thing, kind):
            raise WrongTypeError(f"{thing!r} is no {kind.__name__}; expected one.")

    return accepts

"""First-order methods, one short file each. Adding a file adds the method everywhere."""

from typing import Any

from .._support.errors import unknown_name
from ._algorithm import Algorithm as Algorithm, is_map as is_map, is_proximal as is_proximal
from ._coefficient import (
    Coefficient as Coefficient,
    Drawn as Drawn,
    Learnable as Learnable,
    Learned as Learned,
    Read as Read,
    Schedule as Schedule,
    Table as Table,
    each_entry as each_entry,
    filled as filled,
)
from ._registry import (
    ALGORITHMS as ALGORITHMS,
    as_algorithm as as_algorithm,
    is_own as is_own,
    list_algorithms as list_algorithms,
    specification as specification,
)
from ._state import leaves as leaves, rebuild as rebuild


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    classes = {cls.__name__: cls for cls in ALGORITHMS.values()}
    if name in classes:
        return classes[name]
    raise AttributeError(str(unknown_name("algorithm", name, classes)))


def __dir__() -> list[str]:
    return sorted({*globals(), *(cls.__name__ for cls in ALGORITHMS.values())})

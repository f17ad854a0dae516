"""First-order methods, one short file each. Adding a file adds the method everywhere."""

from typing import Any

from .._support.errors import unknown_name
from ._algorithm import Algorithm as Algorithm
from ._algorithm import is_proximal as is_proximal
from ._coefficient import Coefficient as Coefficient
from ._coefficient import Learnable as Learnable
from ._coefficient import Learned as Learned
from ._coefficient import Read as Read
from ._coefficient import Schedule as Schedule
from ._registry import ALGORITHMS as ALGORITHMS
from ._registry import as_algorithm as as_algorithm
from ._registry import is_own as is_own
from ._registry import list_algorithms as list_algorithms
from ._registry import specification as specification
from ._state import leaves as leaves
from ._state import rebuild as rebuild


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    classes = {cls.__name__: cls for cls in ALGORITHMS.values()}
    if name in classes:
        return classes[name]
    raise AttributeError(str(unknown_name("algorithm", name, classes)))


def __dir__() -> list[str]:
    return sorted({*globals(), *(cls.__name__ for cls in ALGORITHMS.values())})

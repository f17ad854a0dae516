"""First-order methods, one short file each. Adding a file adds the method everywhere."""

from typing import Any

from .._support.errors import unknown_name
from ._algorithm import Algorithm as Algorithm
from ._coefficient import Coefficient as Coefficient
from ._coefficient import Learnable as Learnable
from ._registry import ALGORITHMS as ALGORITHMS
from ._registry import as_algorithm as as_algorithm
from ._registry import builtin as builtin
from ._registry import list_algorithms as list_algorithms
from ._registry import specification as specification


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    classes = {cls.__name__: cls for cls in ALGORITHMS.values()}
    if name in classes:
        return classes[name]
    raise AttributeError(str(unknown_name("algorithm", name, classes)))


def __dir__() -> list[str]:
    return sorted({*globals(), *(cls.__name__ for cls in ALGORITHMS.values())})

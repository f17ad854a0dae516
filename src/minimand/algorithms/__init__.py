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
from ._registry import as_algorithm as as_algorithm
from ._registry import builtin as builtin
from ._registry import is_own as is_own
from ._registry import specification as specification
from ._state import leaves as leaves
from ._state import rebuild as rebuild

_classes = {cls.__name__: cls for cls in builtin.values()}

__all__ = ["Algorithm", "Coefficient", "Learnable", "as_algorithm", "builtin", "specification", *_classes]  # pyright: ignore


def __getattr__(name: str) -> Any:
    if name in _classes:
        return _classes[name]
    if name.startswith("_"):
        raise AttributeError(name)
    raise AttributeError(str(unknown_name("algorithm", name, _classes)))

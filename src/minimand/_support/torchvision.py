"""timm and torchvision (extra `vision`), importable beside a torch without CUDA too."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .extras import require

# Kept alive: the schemas go with the library that declares them.
_libraries: list[Any] = []


def require_timm() -> Any:
    """Import timm.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    require_torchvision("by timm")
    return require("timm", "vision", "for timm's models")


def after_timm(action: Callable[[], None]) -> None:
    """Call `action` once timm has been imported, by whomever: now, if it has been already."""
    if sys.modules.get("timm") is None:
        sys.meta_path.insert(0, _Watch(action))
    else:
        action()


class _Watch(MetaPathFinder):
    """Finds timm as it would be found without it, and acts after its import."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "timm":
            return None
        others = [finder for finder in sys.meta_path if not isinstance(finder, _Watch)]
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._wrap(spec.loader)
        return spec

    def _wrap(self, loader: Loader) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            vars(loader).pop("exec_module")
            with suppress(Exception):  # timm meets the same one, and says so itself
                require_torchvision("by timm")
            execute(module)
            self.action()

        vars(loader)["exec_module"] = exec_module


def require_torchvision(purpose: str) -> Any:
    """Import torchvision.

    Its wheels need CUDA libraries: beside a CPU build of torch its compiled operators do not load, and its import
    stops at `torchvision::nms`. With the schemas declared, all that needs no such operator works.

    Raises:
        ModuleNotFoundError: the extra is not installed; names the purpose.
    """
    try:
        return require("torchvision", "vision", purpose)
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    _declare()
    return import_module("torchvision")


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)

"""Optional packages, imported where they are used; timm and torchvision also beside a torch without CUDA."""

from importlib import import_module
from typing import Any

from .errors import MissingPackageError

_libraries: list[Any] = []
"""The libraries of torch that declare the schemas of torchvision, which go with them."""


def require(package: str, extra: str, purpose: str) -> Any:
    """Import an optional package; where it is missing, MissingPackageError names the extra that brings it."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name not in (package, package.partition(".")[0]):
            raise
        message = f"{package} is needed {purpose} and is not installed; run: pip install 'minimand[{extra}]'"
        raise MissingPackageError(message, name=package) from None


def require_timm() -> Any:
    """Import timm, and before it torchvision, which it needs."""
    require_torchvision("by timm")
    return require("timm", "vision", "for timm's models")


def require_torchvision(purpose: str) -> Any:
    """Import torchvision for a purpose.

    Its wheels need CUDA libraries: beside a CPU build of torch its compiled operators do not load, and its import
    stops at `torchvision::nms`. With the schemas declared, all that needs no such operator works.
    """
    try:
        return require("torchvision", "vision", purpose)
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
    return import_module("torchvision")

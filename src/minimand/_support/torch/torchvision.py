"""timm and torchvision (extra `vision`), importable beside a torch without CUDA too."""

from importlib import import_module
from typing import Any

from ..extras import require
from .torchvision_error import is_torchvision_without_cuda

_libraries: list[Any] = []
"""The libraries of torch that declare the schemas, which go with them."""


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
        if not is_torchvision_without_cuda(error):
            raise
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
    return import_module("torchvision")

"""Optional packages, which are imported where they are used."""

from importlib import import_module
from typing import Any

from .errors import MissingPackageError


def require(package: str, extra: str, purpose: str) -> Any:
    """Import an optional package; where it is missing, MissingPackageError names the extra that brings it."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name not in (package, package.partition(".")[0]):
            raise
        message = f"{package} is needed {purpose} and is not installed; run: pip install 'minimand[{extra}]'"
        raise MissingPackageError(message, name=package) from None

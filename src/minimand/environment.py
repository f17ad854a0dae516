"""With what a number was measured."""

import platform
import time
from pathlib import Path
from typing import Any

import torch

from . import __version__


def environment() -> dict[str, Any]:
    """Date, versions and hardware, to be kept beside every result."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "minimand": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "hardware": hardware(),
    }


def hardware() -> str:
    """The accelerator, or the processor with the number of threads that torch uses."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

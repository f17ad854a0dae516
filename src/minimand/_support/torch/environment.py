"""The device that is used, and the versions and hardware that a number was measured with."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..errors import MinimandError


def default_device() -> torch.device:
    """The default device: the GPU where there is one, the one of its rank in a process of several; else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if "LOCAL_RANK" in os.environ else torch.device("cuda")


def as_device(name: str | torch.device | None) -> torch.device:
    """The device of a name, the default one for None; raises MinimandError where this machine has no such device."""
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise MinimandError(f"device is {name!r}; expected 'cpu', 'cuda' or 'cuda:0'.") from None
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise MinimandError(f"device is {str(name)!r}, but this machine has {count} GPUs; expected {default_device()}.")
    return device


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """The date, versions and hardware of a measurement, to be written beside it."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "minimand": version("minimand"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "hardware": hardware(device),
    }


def hardware(device: torch.device | None = None) -> str:
    """The name of the GPU, or of the processor with the number of threads that torch uses."""
    device = device or default_device()
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    listing, threads = Path("/proc/cpuinfo"), torch.get_num_threads()
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, {threads} thread{'' if threads == 1 else 's'}"

"""The states of all generators that training may draw from, to be kept in a checkpoint."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def random_state(device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The states of torch's generators as tensors, and those of numpy and Python as plain values."""
    kind, keys, *rest = np.random.get_state()
    return torch_state(device), {"numpy": [kind, np.asarray(keys).tolist(), *rest], "python": random.getstate()}


def restore_random_state(device: torch.device, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """The inverse of `random_state`."""
    _set_torch_state(device, tensors)
    np.random.set_state(tuple(plain["numpy"]))
    version, keys, following = plain["python"]
    random.setstate((version, tuple(keys), following))


def torch_state(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators."""
    tensors = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def mixed(seed: int, number: int) -> int:
    """The seed of one of the parts of a training that is seeded itself."""
    return (seed * 1_000_003 + number) % 2**63


@contextmanager
def drawing_from(device: torch.device, tensors: dict[str, Tensor]) -> Iterator[None]:
    """Within it torch's generators go on from their states at another time; after it they are as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        _set_torch_state(device, tensors)
        yield


def _set_torch_state(device: torch.device, tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors["cpu"])
    if "cuda" in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors["cuda"], device)

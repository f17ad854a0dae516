"""Seeds and random states: all that is random follows from a seed, and can be kept and put back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def derived_seed(seed: int, number: int) -> int:
    """The seed of a part of a computation that is seeded itself: an epoch, a batch, a rank, by its number."""
    return (seed * 1_000_003 + number) % 2**63


def seed_everything(seed: int) -> None:
    """Seed the generators of torch, numpy and Python in this process."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Put the generators of torch (CPU and every GPU), numpy and Python back at the end, also after an error."""
    states, gpus = random_state(torch.device("cpu")), torch.cuda.is_initialized() or device.type == "cuda"
    on_gpus = torch.cuda.get_rng_state_all() if gpus else []
    try:
        yield
    finally:
        restore_random_state(torch.device("cpu"), *states)
        if gpus:
            torch.cuda.set_rng_state_all(on_gpus)
        else:  # GPUs that nothing has used yet would begin with the seed that was set inside
            torch.cuda.manual_seed_all(torch.initial_seed())


def random_state(device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The states of torch's generators as tensors, and those of numpy and Python as plain values."""
    kind, keys, *position = np.random.get_state()
    numpy_state = [kind, np.asarray(keys).tolist(), *position]
    return torch_state(device), {"numpy": numpy_state, "python": random.getstate()}


def restore_random_state(device: torch.device, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Set all generators to the states that `random_state` gave."""
    _set_torch_state(device, tensors)
    np.random.set_state(tuple(plain["numpy"]))
    version, keys, following = plain["python"]
    random.setstate((version, tuple(keys), following))


def torch_state(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators on the CPU and on a device."""
    tensors = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    return tensors


@contextmanager
def seeded_apart(seed: int, device: torch.device) -> Iterator[None]:
    """A context in which torch draws from a seed of its own; at its end torch's generators are as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def drawing_from(device: torch.device, tensors: dict[str, Tensor]) -> Iterator[None]:
    """A context in which torch's generators go on from earlier states; at its end they are as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        _set_torch_state(device, tensors)
        yield


def _set_torch_state(device: torch.device, tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors["cpu"])
    if "cuda" in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors["cuda"], device)

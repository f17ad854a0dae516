"""Checkpoints: one safetensors file each, written whole or not at all."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from ..._support.errors import MinimandError

# The newest checkpoints that stay.
_KEPT = 2
# The plain state of every checkpoint.
_STATE = {"step", "optimizer", "sums", "seconds", "metrics", "history", "evaluation", "hooks", "random"}


class CheckpointError(MinimandError):
    """A checkpoint that is cut short, unreadable or of another model."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by section (`model`, `average`, `optimizer`, `random`) and the plain state beside them."""

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(checkpoint: Checkpoint, folder: Path, step: int) -> Path:
    """Write a checkpoint so that a kill or an error at any moment leaves the earlier ones whole; keep the last two."""
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / f"{step:09d}.safetensors", folder / f"{step:09d}.part"
    flat = {
        f"{section}/{name}": tensor.detach().cpu().contiguous().clone()  # the format lets no tied weights share memory
        for section, tensors in checkpoint.tensors.items()
        for name, tensor in tensors.items()
    }
    try:
        with part.open("wb") as file:
            file.write(serialize(flat, metadata={"state": json.dumps(checkpoint.state)}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        last = next((p.name for p in reversed(paths(folder))), "none")
        raise OSError(
            f"cannot write the checkpoint {path} ({error}); the last good one is {last}. Free "
            "some space or allow writing, then run the same command again."
        ) from error
    for old in paths(folder)[:-_KEPT]:
        old.unlink()
    for old in folder.glob("*.part"):
        old.unlink()
    return path


def paths(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    return sorted(folder.glob("*.safetensors"))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; raises CheckpointError where the file is cut short or none."""
    tensors: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            for key in file.keys():  # noqa: SIM118 - not a mapping
                section, _, name = key.partition("/")
                tensors.setdefault(section, {})[name] = file.get_tensor(key)
        missing = sorted((_STATE - state.keys()) | ({"model", "random"} - tensors.keys()))
    except (SafetensorError, AttributeError, KeyError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is cut short or no checkpoint of minimand ({error}).") from None
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}; another version of minimand wrote it.")
    return Checkpoint(tensors, state)


def load_last(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that can be read, and what was wrong with newer ones; None where there are none."""
    problems: list[str] = []
    for path in reversed(paths(folder)):
        try:
            return load(path), problems
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        raise CheckpointError(f"{' '.join(problems)} Delete the folder {folder} to begin the run again.")
    return None, []


def load_weights(model: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Put weights into a model; raises CheckpointError that names the first tensor that is another model's."""
    own = model.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        mine, theirs = own.get(name), tensors.get(name)
        if mine is None or theirs is None or mine.shape != theirs.shape:
            shown = [("missing" if t is None else str(tuple(t.shape))) for t in (mine, theirs)]
            raise CheckpointError(f"{where} is of another model: {name} is {shown[0]} here and {shown[1]} there.")
    model.load_state_dict(tensors)


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as tensors and plain numbers."""
    tensors, plain = {}, {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            (tensors if isinstance(value, Tensor) else plain)[f"{index}/{name}"] = value
    return tensors, plain


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """The inverse of `pack_optimizer`."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **plain}.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

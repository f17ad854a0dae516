"""Checkpoints: one sealed safetensors file each, written whole or not at all, which knows its run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ..._support.files import write_whole
from ..._support.sealed import SealError, read_tensors, sealed_tensors
from ..._support.torch.weights import mismatch

FORMAT = 1
# The newest checkpoints that stay.
_KEPT = 2
# The plain state of every checkpoint.
_STATE = {"run", "config", "step", "problem", "optimizer", "sums", "seconds"}
_STATE |= {"history", "evaluation", "hooks", "method", "random"}


class CheckpointError(MinimandError):
    """A checkpoint that is cut short, damaged, or of another run or model."""


class ForeignCheckpointError(CheckpointError):
    """A checkpoint that another run wrote, of another model or recipe."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by section (`model`, `average`, `optimizer`, `random`) and the plain state beside them."""

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(checkpoint: Checkpoint, folder: Path, step: int) -> Path:
    """Write a checkpoint so that a kill or an error at any moment leaves the earlier ones whole; keep the last two.

    `folder` is made in the folder of the run, which has to be there.
    """
    path = folder / f"{step:09d}.safetensors"
    flat = {
        f"{section}/{name}": tensor.detach().cpu().contiguous().clone()  # the format lets no tied weights share memory
        for section, tensors in checkpoint.tensors.items()
        for name, tensor in tensors.items()
    }
    state = {**checkpoint.state, "tensors": _counts(checkpoint.tensors)}
    metadata = {"minimand": version("minimand"), "state": json.dumps(state)}
    try:
        if not folder.is_dir():
            folder.mkdir()
        write_whole(path, *sealed_tensors("checkpoint", FORMAT, flat, metadata))
    except OSError as error:
        last = next((p.name for p in reversed(paths(folder))), "none")
        raise OSError(
            f"cannot write the checkpoint {path} ({error}); the last good one is {last}. Free "
            "some space or allow writing, then run the same command again."
        ) from error
    # Later ones could not be read when this run went on from an earlier one.
    last_ones = [old for old in paths(folder) if old <= path][-_KEPT:]
    for old in [*paths(folder), *folder.glob("*.part")]:
        if old not in last_ones:
            old.unlink()
    return path


def paths(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    return sorted(folder.glob("*.safetensors"))


def load(path: Path, run: str | None = None) -> Checkpoint:
    """Read a checkpoint, of the run with an id; raises CheckpointError where it is damaged or of another one."""
    try:
        flat, metadata = read_tensors(path, "checkpoint", FORMAT)
        state = json.loads(metadata["state"])
        missing = sorted(_STATE - state.keys())
        step = int(path.stem)
    except (SealError, AttributeError, KeyError, OSError, ValueError, RecursionError) as error:
        message = str(error) if isinstance(error, SealError) else f"{path} is no checkpoint of minimand ({error})."
        raise CheckpointError(message) from None
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        section, _, name = key.partition("/")
        tensors.setdefault(section, {})[name] = tensor
    if missing or not {"model", "random"} <= tensors.keys():
        missing += sorted({"model", "random"} - tensors.keys())
        raise CheckpointError(f"{path} lacks {', '.join(missing)}; another version of minimand wrote it.")
    if not isinstance(state["history"], list) or not all(isinstance(record, dict) for record in state["history"]):
        raise CheckpointError(f"{path} has a history that is not one of this training: no list of records.")
    if run not in (None, state["run"]):
        raise ForeignCheckpointError(
            f"{path} is a checkpoint of the run {state['run']}, not of {run}, whose folder this is; move it back."
        )
    if state["step"] != step or state.get("tensors") != _counts(tensors):
        raise CheckpointError(
            f"{path} is of step {state['step']} with {_counts(tensors)} tensors; expected step {step} and "
            f"{state.get('tensors')}."
        )
    return Checkpoint(tensors, state)


def _counts(tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, int]:
    return {section: len(part) for section, part in tensors.items() if part}


def load_last(folder: Path, run: str | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that can be read, and what was wrong with newer ones; None where there are none.

    Raises:
        CheckpointError: none can be read. ForeignCheckpointError: one is of another run than the one with the id.
    """
    problems: list[str] = []
    for path in reversed(paths(folder)):
        try:
            return load(path, run), [f"{problem} The one before it is used." for problem in problems]
        except ForeignCheckpointError:
            raise
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        raise CheckpointError(f"{' '.join(problems)} Delete the folder {folder} to begin the run again.")
    return None, []


def load_weights(model: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Put weights into a model; raises CheckpointError that names the first tensor that is another model's."""
    if (other := mismatch(model, tensors)) is not None:
        raise CheckpointError(f"{where} is of another model: {other[1]}.")
    model.load_state_dict(tensors)


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as tensors and plain numbers."""
    tensors, plain = {}, {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            (tensors if isinstance(value, Tensor) else plain)[f"{index}/{name}"] = value
    return tensors, plain


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Put the state back into an optimizer that `pack_optimizer` took out of it as tensors and plain values."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **plain}.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

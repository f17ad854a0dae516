"""Several processes in a test, and what they do in the tests of decoupled training."""

import multiprocessing
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn

import minimand as mm
from layerwise_models import digits as digits
from minimand.training.distributed.pipeline import Buffer
from minimand.training.distributed.processes import LostProcessError
from minimand.training.fit import fit
from minimand.training.methods.local.decoupled import Decoupled

RECIPE = mm.Recipe(2, 64, mm.SGD(0.05), ema=0.9, precision="bf16", augmentation=mm.Augmentation(pad=1), mixup=0.3)

# Processes that are forked need not import anything again, which would take most of their time.
_CONTEXT = multiprocessing.get_context("fork")


def deep() -> nn.Module:
    """A network with batch normalization, states that are tuples, transitions, and dropout."""
    torch.manual_seed(0)
    model = mm.create_model("resnet20(depth=4, width=4)", "heavy_ball(momentum=0.5)", in_channels=1)
    cast(Any, model).head.module.insert(2, nn.Dropout(0.2))
    cast(Any, model).stem.module.append(nn.Dropout(0.2))
    return model


def spread(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """A metric of all outputs together."""
    return float(outputs.std())


def trained(run: Path | None, method: Decoupled | None = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The weights and the history of the deep model, without times."""
    model = deep()
    data = (digits(), digits(100))
    how: dict[str, Any] = {"recipe": RECIPE, "run": run, "checkpoint_every": 0, "metrics": {"spread": spread}}
    result = fit(model, data, method=method or mm.Decoupled(), **how)
    return model.state_dict(), [{k: v for k, v in record.items() if k != "seconds"} for record in result.history]


def on_ranks(world_size: int, folder: Path, job: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The results of job(rank, folder, *arguments) in each process; None for a process that was killed.

    The processes see what torchrun sets. An exception in a job is its result, as the text of the traceback.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    folder.mkdir(exist_ok=True)
    files = [folder / f"rank{rank}.pt" for rank in range(world_size)]

    def work(rank: int) -> None:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), MASTER_ADDR="localhost", MASTER_PORT=str(port))
        torch.manual_seed(0)
        try:
            result = job(rank, folder, *arguments)
        except Exception:
            result = traceback.format_exc()
        torch.save(result, files[rank])
        if dist.is_initialized():
            dist.destroy_process_group()

    processes = [_CONTEXT.Process(target=work, args=(rank,)) for rank in range(world_size)]
    for file, process in zip(files, processes, strict=True):
        file.unlink(missing_ok=True)
        process.start()
    for process in processes:
        process.join()
    return [torch.load(file, weights_only=False) if file.is_file() else None for file in files]


def misuse_and_train(rank: int, folder: Path, run: Path) -> Any:
    """The messages with which three ranks refuse models, and the weights and history of a training."""
    learnable = "heavy_ball(momentum=Learnable(0.5, 0, 1))"
    two = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 10))
    messages = []
    for model, parallel in (
        (deep(), "ddp"),
        (two, None),
        (mm.create_model("mlp(depth=4, width=12)", learnable, in_channels=64), None),
    ):
        try:
            fit(model, (digits(64), digits(64)), method=mm.Decoupled(), parallel=cast(Any, parallel))
        except ValueError as error:
            messages.append(str(error))
    return messages, *trained(run)


def train_until_killed(rank: int, folder: Path, run: Path, victim: int, at: int) -> Any:
    """Train; the victim is killed before step `at`. The message in the others, and the seconds until it came."""
    steps, real = 0, Decoupled.backward

    def backward(self: Decoupled, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if rank == victim and steps == at:
            (folder / "killed").write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *arguments)

    cast(Any, Decoupled).backward = backward
    try:
        return trained(run)
    except LostProcessError as error:
        return str(error), time.time() - float((folder / "killed").read_text())


def train_with_a_slow_rank(rank: int, folder: Path, run: Path) -> Any:
    """Train with a buffer, the first modules slow; weights, history, and the seed of the batch of each step."""
    seeds: list[int] = []
    real, read = Decoupled.backward, Buffer.read

    def backward(self: Decoupled, *arguments: Any) -> Any:
        time.sleep(0.1 * rank)
        return real(self, *arguments)

    def noted(self: Buffer[Any], beyond: bool = False) -> Any:
        batch = read(self, beyond)
        seeds.extend([] if batch is None else [batch.number])
        return batch

    cast(Any, Decoupled).backward = backward
    cast(Any, Buffer).read = noted
    return *trained(run, mm.Decoupled(buffer=3)), seeds

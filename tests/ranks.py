"""What the ranks of the tests do: apart from them, so that a rank starts without what tests need."""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn

import minimand as mm
from minimand.training.distributed.processes import LostProcessError
from minimand.training.distributed.replay import Buffer
from minimand.training.fit import fit
from minimand.training.methods.local.decoupled import Decoupled

RECIPE = mm.Recipe(2, 64, mm.SGD(0.05), ema=0.9, precision="bf16", augmentation=mm.Augmentation(pad=1), mixup=0.3)

# Ranks are forked from a process that has imported everything, as start-up would take most of their time.
_CONTEXT = multiprocessing.get_context("forkserver")


def digits(samples: int = 256) -> Any:
    """The first so many."""
    data = mm.load_data("digits")
    train = cast(Any, data.train)
    return (data.prepare(train.inputs[:samples]), train.targets[:samples])


def deep() -> nn.Module:
    """With batch normalization, states that are tuples, transitions, and dropout."""
    torch.manual_seed(0)
    model = mm.create_model("resnet20(depth=4, width=4)", "heavy_ball(momentum=0.5)", in_channels=1)
    cast(Any, model).head.module.insert(2, nn.Dropout(0.2))
    cast(Any, model).stem.module.append(nn.Dropout(0.2))
    return model


def trained(run: Path | None, method: Decoupled | None = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The weights and the history of the deep model, without times."""
    model = deep()
    data = (digits(), digits(100))
    result = fit(model, data, method or mm.Decoupled(), recipe=RECIPE, run=run, checkpoint_every=0)
    return model.state_dict(), [{k: v for k, v in record.items() if k != "seconds"} for record in result.history]


def on_ranks(ranks: int, folder: Path, job: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What job(rank, folder, ...) returns on each rank; None where it was killed."""
    _CONTEXT.set_forkserver_preload(["minimand.cli", "minimand.data", "minimand.training", "torch._dynamo"])
    folder.mkdir()
    started = [_CONTEXT.Process(target=_work, args=(rank, ranks, folder, job, arguments)) for rank in range(ranks)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    files = [folder / f"rank{rank}.pt" for rank in range(ranks)]
    return [torch.load(file, weights_only=False) if file.is_file() else None for file in files]


def _work(rank: int, ranks: int, folder: Path, job: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", world_size=ranks, rank=rank)
    try:
        found = job(rank, folder, *arguments)
    except Exception:
        found = traceback.format_exc()
    torch.save(found, folder / f"rank{rank}.pt")


def misuse_and_train(rank: int, folder: Path, run: Path) -> Any:
    """The messages of what three ranks refuse, and what they train."""
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
    """Train; the victim is killed before a step. The message of the others, and how long after."""
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
    """Train with a buffer, the first modules slow; and which batches each step of this rank was made on."""
    seeds: list[int] = []
    real, read = Decoupled.backward, Buffer.read

    def backward(self: Decoupled, *arguments: Any) -> Any:
        time.sleep(0.1 * rank)
        return real(self, *arguments)

    def noted(self: Buffer[Any], beyond: bool = False) -> Any:
        found = read(self, beyond)
        seeds.extend([] if found is None else [found.word])
        return found

    cast(Any, Decoupled).backward = backward
    cast(Any, Buffer).read = noted
    return *trained(run, mm.Decoupled(buffer=3)), seeds

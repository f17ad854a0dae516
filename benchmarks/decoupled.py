"""What a second process gains: an epoch of decoupled training on two processes of one thread, against on one.

Beside them end-to-end training in one process. The network is the six convolutions of the paper (Belilovsky et al.
2020), an eighth as wide. They take turns in the same two processes; two processors have to be free.
`python benchmarks/decoupled.py --help`; results/ holds committed runs.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from turns import machine

import minimand as mm
from minimand.data.samples import Arrays
from minimand.training.fit import fit

CONTENDERS: dict[str, tuple[int, Callable[[], Any]]] = {
    "decoupled, one process": (1, mm.Decoupled),
    "decoupled, two processes": (2, mm.Decoupled),
    "end to end, one process": (1, mm.Backpropagation),
}


def network(width: int) -> nn.Sequential:
    """The paper's six convolutions, of `width` to 4 `width` channels."""
    torch.manual_seed(0)
    channels = [3, width, 2 * width, 2 * width, 4 * width, 4 * width, 4 * width]
    blocks = []
    for j in range(6):
        pool = [nn.MaxPool2d(2)] if j in (1, 3) else []
        convolution = nn.Conv2d(channels[j], channels[j + 1], 3, padding=1, bias=False)
        blocks.append(nn.Sequential(*pool, convolution, nn.BatchNorm2d(channels[j + 1]), nn.ReLU()))
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16 * width, 10))


def work(rank: int, options: argparse.Namespace, folder: str, turn: Any) -> None:
    """One of two processes, which leaves what it measured in the folder; only the first trains alone."""
    torch.set_num_threads(1)
    data = mm.load_data("cifar10", **({"data_folder": options.data_folder} if options.data_folder else {}))
    train, test = cast(Arrays, data.train), cast(Arrays, data.test)
    few = replace(
        data,
        train=Arrays(train.inputs[: options.samples], train.targets[: options.samples]),
        test=Arrays(test.inputs[:1000], test.targets[:1000]),
    )
    recipe = mm.Recipe(options.epochs, 128, mm.SGD(0.05), mm.StepDecay(at=()))
    rounds: list[dict[str, Any]] = []
    for number in range(options.rounds):
        rounds.append({})
        for name, (ranks, method) in CONTENDERS.items():
            turn.wait()
            if rank >= ranks:
                continue
            if ranks > 1:
                dist.init_process_group("gloo", f"file://{folder}/{number}", world_size=ranks, rank=rank)
            began = time.process_time()
            result = fit(network(options.width), few, method=method(), recipe=recipe)
            rounds[-1][name] = {
                # In the first epoch memory is taken for the first time.
                "seconds": statistics.median(record["seconds"] for record in result.history[1:]),
                "processor": (time.process_time() - began) / options.epochs,
                "accuracy": result.test_accuracy,
                "losses": [record["train_loss"] for record in result.history],
            }
            if ranks > 1:
                dist.destroy_process_group()
    Path(folder, f"{rank}.json").write_text(json.dumps(rounds))


def measured(options: argparse.Namespace) -> list[list[dict[str, Any]]]:
    """What each process found, by round and contender."""
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        turn = context.Barrier(2)
        started = [context.Process(target=work, args=(rank, options, folder, turn)) for rank in range(2)]
        for process in started:
            process.start()
        for process in started:
            process.join()
        return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(2)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=1280)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--data-folder", help="of CIFAR-10")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    print(machine())
    print(
        f"{options.samples} images of CIFAR-10, {options.width} to {4 * options.width} channels, batches of 128, "
        f"{options.rounds} rounds of {options.epochs} epochs; load of the machine {os.getloadavg()[0]:.1f} at the start"
    )
    rounds, others = measured(options)
    one, two, _ = CONTENDERS
    print(f"{'':26}{'s an epoch':>12}{'ratio':>8}{'least':>8}{'most':>8}{'processor s':>13}{'test accuracy %':>17}")
    for name in CONTENDERS:
        seconds = [r[name]["seconds"] for r in rounds]
        ratios = [r[name]["seconds"] / r[one]["seconds"] for r in rounds]
        both = [(r[name]["processor"], o.get(name, r[name])["processor"]) for r, o in zip(rounds, others, strict=True)]
        busiest = statistics.median(map(max, both))
        print(
            f"{name:26}{statistics.median(seconds):12.2f}{statistics.median(ratios):8.3f}{min(ratios):8.3f}"
            f"{max(ratios):8.3f}{busiest:13.2f}{100 * rounds[0][name]['accuracy']:17.1f}"
        )
    print("processor s: an epoch, of the busier process.")
    same = all(r[one]["losses"] == r[two]["losses"] for r in rounds)
    print(f"the losses of one process and of two are {'the same to the last bit' if same else 'DIFFERENT'}.")


if __name__ == "__main__":
    main()

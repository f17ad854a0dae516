"""One run on a GPU, under nine minutes: first that results are right there, then what they cost.

`python benchmarks/gpu.py --out results/gpu` writes what it prints to a file named after the device.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

import skeleton
import torch
from torch import nn

import minimand as mm
from minimand._support.torch.environment import environment, hardware
from minimand.algorithms import is_proximal
from minimand.training.loop.events import Event, StepDone


def make_block(oracle: str) -> nn.Module:
    """A block for an oracle: two layers for a gradient, soft thresholding for a prox, a normalization for a map."""
    if oracle.startswith("normalize"):
        return nn.LayerNorm(32, bias=False)
    return mm.blocks.SoftThreshold(32, 0.1) if is_proximal(oracle) else mm.blocks.two_layer(32, 32)


def check_stages(device: torch.device) -> None:
    """Every algorithm: the fast stage, the steps as written and the CPU agree."""
    for name, cls in mm.algorithms.ALGORITHMS.items():
        for binding in ("residual", "operator"):
            torch.manual_seed(0)
            blocks = [{oracle: make_block(oracle) for oracle in cls.oracles} for _ in range(6)]
            algorithm = cls()
            if "step_size" in algorithm.coefficient_names():
                algorithm = algorithm.rebind(step_size=0.5)
            stage = mm.unroll(algorithm, blocks, binding).double().eval()  # where nothing is drawn
            x = tuple(torch.randn(8, 32, dtype=torch.double) for _ in algorithm.inputs)
            expected = stage(x)
            stage.to(device)
            state = stage.start(x := tuple(tensor.to(device) for tensor in x))
            for layer in stage.layers:
                state = layer(state)
            for outputs in (stage(x), stage.read(state)):
                torch.testing.assert_close(outputs.cpu(), expected, rtol=1e-8, atol=1e-8, msg=f"{name}, {binding}")
    print(f"stages: {len(mm.algorithms.ALGORITHMS)} algorithms agree with the CPU and with their steps as written")


def check_runs(device: torch.device) -> None:
    """A run that is stopped and goes on ends in the same bits, with bf16 too."""

    def go(folder: str, stop: int | None = None) -> list[torch.Tensor]:
        def watch(event: Event) -> None:
            if isinstance(event, StepDone) and event.step == stop:
                raise KeyboardInterrupt

        torch.manual_seed(0)
        model = mm.create_model("preact_resnet20", "heavy_ball", in_channels=1)
        recipe = mm.Recipe(epochs=2, precision="bf16")
        with contextlib.suppress(KeyboardInterrupt):
            mm.fit(model, "digits", recipe=recipe, run=folder, device=device, callbacks=[watch], checkpoint_every=0)
        return [v.cpu() for v in model.state_dict().values()]

    with tempfile.TemporaryDirectory() as place:
        whole = go(f"{place}/whole")
        go(f"{place}/parts", stop=7)
        parts = go(f"{place}/parts")
    same = all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    print(f"runs: {'resume to the same bits' if same else 'DO NOT resume to the same bits'}")


def train_record(device: torch.device, data_folder: str | None) -> None:
    """The record recipe for CIFAR-10: seconds, and accuracy where the images are there; noise in their place else."""
    if data_folder is None:
        images, labels = torch.randint(256, (50_000, 3, 32, 32), dtype=torch.uint8), torch.arange(50_000) % 10
        data = mm.data.as_data(((images, labels), (images[:10_000], labels[:10_000])))
    else:
        data = mm.load_data("cifar10", data_folder=data_folder)
    for compiled in (False, True):
        torch.manual_seed(0)
        model = mm.create_model("airbench")
        recipe = mm.recipe("airbench", precision="bf16", compile=compiled)
        began = time.monotonic()
        result = mm.fit(model, data, recipe=recipe, device=device, progress=False)
        accuracy = "of noise" if data_folder is None else f"test accuracy {100 * (result.test_accuracy or 0):.2f} %"
        last = result.history[-1]["seconds"]
        seconds = f"{time.monotonic() - began:.1f} s in all, the last epoch {last:.2f} s"
        print(f"airbench, 10 epochs{', compiled' if compiled else ''}: {accuracy}, {seconds}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", help="a folder for what is printed")
    parser.add_argument("--data-folder", help="the files of CIFAR-10, for the accuracy of the record recipe")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    device = torch.device(options.device)
    printed = io.StringIO()
    began = time.monotonic()
    with contextlib.redirect_stdout(_Both(sys.stdout, printed)):
        print(", ".join(f"{key} {value}" for key, value in environment(device).items()))
        check_stages(device)
        check_runs(device)
        train_record(device, options.data_folder)
        for compiled in (False, True):
            for name in ("preact_resnet20", "preact_resnet56", "resnet20", "wrn16_4"):
                skeleton.measure(name, options.batch, options.rounds, device, compiled)
                if time.monotonic() - began > 480:
                    print("stopped: eight minutes are over")
                    break
    if options.out:
        path = Path(options.out) / f"{hardware(device).replace(' ', '-')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(printed.getvalue())


class _Both(io.TextIOBase):
    """A stream that writes to the terminal and keeps a copy."""

    def __init__(self, terminal: TextIO, copy: io.StringIO) -> None:
        self.terminal, self.copy = terminal, copy

    def write(self, text: str) -> int:
        self.terminal.write(text)
        self.terminal.flush()
        return self.copy.write(text)


if __name__ == "__main__":
    main()

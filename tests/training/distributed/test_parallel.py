"""Several processes train what one would: DDP, FSDP, their ends and their beginnings."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed.fsdp  # once here, and not in every process
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from torch.utils.data import DataLoader, TensorDataset

import minimand as mm
from minimand.data.samples import Arrays, Items, Loader
from minimand.data.text.text import make_text
from minimand.training.distributed.processes import TIMEOUT, LostProcessError, code_and_versions, timeout
from minimand.training.distributed.world import Parallel
from minimand.training.loop.events import Event, StepDone
from minimand.training.methods.local.activations import Activations
from minimand.training.runs.run import Run
from ranks import on_ranks
from sweeps import thin

KINDS: tuple[Parallel, ...] = ("ddp", "fsdp")
Outcome = dict[str, Any]


def together(task: Callable[[], Any], folder: Path) -> list[Any]:
    """The results of the task in two processes; None where it did not come to an end."""
    return on_ranks(2, folder, lambda rank, _: task())


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def thresholds() -> nn.Module:
    model = plain()
    mm.harden(model, mm.Sign())
    return model


def tokens() -> nn.Module:
    algorithm = "heavy_ball(momentum=Learnable(0.5, 0, 1))"
    return mm.create_model(
        "vit_tiny(depth=3, width=12, image_size=8, patch=4)", algorithm, num_classes=10, in_channels=1
    )


def tied() -> nn.Module:
    first, second = nn.Linear(64, 64), nn.Linear(64, 64)
    second.weight = first.weight
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), nn.Linear(64, 10))


def recipe(**changes: Any) -> mm.Recipe:
    return mm.Recipe(
        **{"epochs": 1, "batch_size": 32, "optimizer": mm.SGD(0.05), "schedule": mm.StepDecay(at=()), **changes}
    )


def trained(
    make: Callable[[], nn.Module],
    method: Any,
    recipe: mm.Recipe,
    parallel: Parallel | None = None,
    run: Path | None = None,
    stop: int | None = None,
) -> Outcome:
    """A training on a few digits; it asks itself to stop after a step."""
    torch.manual_seed(0)
    model, losses = make(), []
    data = mm.load_data("digits")
    train = cast(Any, data.train)
    x, y = data.prepare(train.inputs[:96]), train.targets[:96]

    def look(event: Event) -> None:
        if isinstance(event, StepDone):
            losses.append(event.loss)
            if event.step == stop:
                os.kill(os.getpid(), signal.SIGINT)

    before = {name: id(p) for name, p in model.named_parameters()}
    try:
        result = mm.fit(
            model,
            ((x, y), (x[:65], y[:65])),
            method=method,
            recipe=recipe,
            parallel=parallel,
            run=run,
            callbacks=[look],
            metrics={"place": in_order},
        )
    except KeyboardInterrupt:
        assert {name: id(p) for name, p in model.named_parameters()} == before
        return {"losses": losses}
    assert {name: id(p) for name, p in model.named_parameters()} == before
    history = [{name: value for name, value in record.items() if name != "seconds"} for record in result.history]
    return {"losses": losses, "weights": model.state_dict(), "history": history, "type": type(model)}


def in_order(outputs: Tensor, targets: Tensor) -> float:
    """A number that only all targets in their order have."""
    assert len(outputs) == len(targets)
    return float(targets.double() @ torch.arange(len(targets)).double())


def close(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float) -> bool:
    return all(torch.allclose(a[name], b[name], rtol=0, atol=tolerance) for name in b)


CASES: dict[str, tuple[Callable[[], nn.Module], Any, mm.Recipe]] = {
    "uneven shares": (plain, mm.Backpropagation(), recipe(batch_size=33)),
    "clipped, averaged": (plain, mm.Layerwise(auxiliary="linear"), recipe(clip=0.5, ema=0.8)),
    "adaptively clipped": (tokens, mm.Backpropagation(), recipe(adaptive_clip=0.05, optimizer=mm.AdamW(1e-2))),
    "blocks": (tokens, mm.Layerwise(), recipe()),
    "with the network's own loss": (plain, mm.Layerwise(auxiliary="predsim", global_weight=1.0), recipe()),
    "tied": (tied, mm.Backpropagation(), recipe()),
    "targets": (thresholds, mm.TargetPropagation(), recipe()),
    "accumulated": (plain, mm.Backpropagation(), recipe(batch_size=9, accumulate=4)),
    "supervised": (plain, mm.DeepSupervision(auxiliary="auglocal"), recipe()),
    "stopped early": (plain, mm.Layerwise(auxiliary="linear"), recipe(epochs=3, validation=0.2, early_stopping=1)),
}


_HALVES = (tuple(CASES)[::2], tuple(CASES)[1::2])


@pytest.mark.parametrize(("kind", "names"), thin(product(KINDS, _HALVES), list(zip(KINDS, _HALVES, strict=True))))
def test_processes_train_what_one_does(kind: Parallel, names: tuple[str, ...], tmp_path: Path) -> None:
    """Losses at every step, metrics and weights are the same: the sum of shares is the batch."""
    expected = {name: trained(*CASES[name]) for name in names}
    first, second = together(lambda: {name: trained(*CASES[name], kind) for name in names}, tmp_path)
    for name, alone in expected.items():
        assert first[name]["losses"] == pytest.approx(alone["losses"], abs=1e-5), name
        assert not second[name]["losses"], "events are told once"
        assert first[name]["history"] == second[name]["history"]
        assert first[name]["type"] is alone["type"]
        for outcome in (first, second):
            assert close(outcome[name]["weights"], alone["weights"], 1e-5), name
        for mine, theirs in zip(first[name]["history"], alone["history"], strict=True):
            assert mine.keys() == theirs.keys()
            assert mine.get("thresholds", {}).keys() == theirs.get("thresholds", {}).keys()
            assert mine["test_loss"] == pytest.approx(theirs["test_loss"], abs=1e-5)
            assert mine["test_accuracy"] == pytest.approx(theirs["test_accuracy"])
            assert mine["place"] == theirs["place"]


@pytest.mark.parametrize("kind", thin(KINDS, ["ddp"]))
def test_processes_share_padded_windows_of_a_text_by_their_tokens(kind: Parallel, tmp_path: Path) -> None:
    """With a block that is asked twice, and a first velocity of its own; ranks have unequal numbers of tokens."""
    texts = {"": ["a" * n + "bc" for n in range(1, 25)]}

    def train(kind: Parallel | None = None) -> dict[str, Tensor]:
        data = make_text("short", "", texts, context=20, across_documents=False)
        torch.manual_seed(0)
        model: Any = mm.models.model_for("gpt_nano(width=8, depth=1, splitting='strang')", data, "yurii_former")
        mm.fit(model, data, recipe=recipe(batch_size=8), parallel=kind, progress=False)
        return model.state_dict()

    alone = train()
    for weights in together(lambda: train(kind), tmp_path):
        assert close(weights, alone, 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_goes_on_with_any_number_of_processes(kind: Parallel, tmp_path: Path) -> None:
    """Stopped in the second block, the end is to the bit that of a run that was not; with one process, nearly."""
    case = plain, mm.Layerwise(auxiliary="linear"), recipe(ema=0.9, optimizer=mm.AdamW(1e-2))

    def stopped_and_whole() -> list[Outcome]:
        stopped = trained(*case, kind, tmp_path / "run", 4)  # of 3 steps a block
        if torch.distributed.get_rank() == 0:
            subprocess.run(["cp", "-r", tmp_path / "run", tmp_path / "alone"], check=True)
        return [stopped, trained(*case, kind, tmp_path / "run"), trained(*case, kind)]

    for stopped, resumed, whole in together(stopped_and_whole, tmp_path):
        assert "weights" not in stopped
        assert len(resumed["losses"]) in (0, len(whole["losses"]) - 4)
        assert close(resumed["weights"], whole["weights"], 0)
        assert resumed["history"] == whole["history"]
        alone = trained(*case, run=tmp_path / "alone") if not (tmp_path / "alone" / "report.html").exists() else {}
        assert not alone or close(alone["weights"], whole["weights"], 1e-4)


@pytest.mark.parametrize("kind", ["arrays", "items", "loader", "activations"])
def test_shares_make_up_the_batch(kind: str) -> None:
    """Shuffled and entered late, whatever the samples are in, and no sample twice."""
    x, y = torch.rand(23, 3), torch.arange(23)
    dataset = TensorDataset(x, y)
    samples = {
        "arrays": lambda: Arrays(x, y),
        "items": lambda: Items(dataset, workers=0),
        "loader": lambda: Loader(DataLoader(dataset, 5, shuffle=True, generator=torch.Generator())),
        "activations": lambda: Activations([x], tree_flatten(x)[1], y, 1),
    }[kind]()
    whole = [targets for _, targets in samples.batches(5, 7, 1)]
    shares = [[targets for _, targets in samples.batches(5, 7, 1, slice(rank, None, 2))] for rank in range(2)]
    assert len(whole) == samples.count(5, True) - 1
    for batch, *parts in zip(whole, *shares, strict=True):
        assert [len(part) for part in parts] == [-(-len(batch) // 2), len(batch) // 2]
        assert torch.equal(torch.cat(parts).sort()[0], batch.sort()[0])


def test_statistics_of_batches_are_the_same_in_all_processes(tmp_path: Path) -> None:
    def normalized() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))

    for kind in KINDS:
        one, two = together(lambda kind=kind: trained(normalized, None, recipe(ema=0.5), kind), tmp_path)
        assert close(one["weights"], two["weights"], 0)


def test_probes_are_trained_by_several_processes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, data = plain(), mm.load_data("digits")
    samples = (data.prepare(cast(Any, data.train).inputs[:96]), cast(Any, data.train).targets[:96])
    one, two = together(lambda: mm.probe(model, (samples, samples), "cnn", recipe=recipe()).to_dict(), tmp_path)
    assert one == two
    assert [layer["shape"] for layer in one["layers"]] == [(4, 4, 4), (4, 4, 4)]


def test_the_death_of_a_process_ends_the_others_and_not_the_run(tmp_path: Path) -> None:
    calls, mark = [], tmp_path / "killed"

    def deadly(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(0)
        if len(calls) == 5 and os.environ.get("RANK") == "1" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return nn.functional.cross_entropy(outputs, targets)

    data = mm.load_data("digits")
    samples = (data.prepare(cast(Any, data.train).inputs[:96]), cast(Any, data.train).targets[:96])

    def train() -> str:
        try:
            mm.fit(plain(), (samples, samples), recipe=recipe(), loss=deadly, run=tmp_path / "run", checkpoint_every=0)
        except LostProcessError as error:
            return str(error)
        return "came to its end"

    message, killed = together(train, tmp_path)
    assert killed is None
    assert "another of the 2 processes does not answer any more" in message
    saved, _ = Run(tmp_path / "run").last_checkpoint()
    assert saved is not None
    assert saved.state["step"] == 2, "two calls were for fingerprints"
    assert together(train, tmp_path) == ["came to its end"] * 2


def test_what_several_processes_cannot_do(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.scale = plain(), nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * self.inner(x)

    class Wayward(Scaled):
        def forward(self, x: Tensor) -> Tensor:
            outputs = self.inner(x)
            return outputs if self.training and float(x.sum()) > -1e9 else self.scale * outputs

    def errors() -> list[str]:
        def message(model: nn.Module, **changes: Any) -> str:
            with pytest.raises(ValueError, match="expected|Known") as caught:
                mm.fit(model, "digits", **{"recipe": recipe(), **changes})
            return str(caught.value)

        small = recipe(batch_size=1)
        return [
            message(plain(), recipe=small),
            message(plain(), method=mm.Layerwise(cache="memory")),
            message(plain(), diagnose=True),
            message(Wayward()),
            message(plain(), parallel=cast(Any, "fdsp")),
            message(Scaled(), parallel="fsdp"),
        ]

    expected = [
        "a batch has the size 1, and each of the 2 processes needs a sample",
        "expected cache='off', or one process",
        "diagnose looks at a model in one process",
        "uses the same parameters in each",
        "unknown parallel 'fdsp'. Did you mean 'fsdp'?",
        "parameter scale is a single number",
    ]
    for messages in together(errors, tmp_path):
        assert all(part in message for part, message in zip(expected, messages, strict=True)), messages
    for kind in KINDS:
        with pytest.raises(ValueError, match=f"parallel is '{kind}', but this is one process; expected .*torchrun"):
            mm.fit(plain(), "digits", parallel=kind)


@pytest.mark.soak
def test_the_command_speaks_once(tmp_path: Path) -> None:
    train = "train --data digits --epochs 1 --model mlp(width=8) --run runs/1"
    command = f"torch.distributed.run --nproc-per-node 2 -m -- minimand {train}"
    completed = subprocess.run([sys.executable, "-m", *command.split()], cwd=tmp_path, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.count("report: runs/1/report.html") == 1
    assert completed.stdout.count("epoch 1/1") == 1


def _train(**changes: Any) -> Any:
    """The message with which a training of a small model ends, or None."""
    torch.manual_seed(0)
    x, y = torch.randn(64, 6), torch.randint(3, (64,))
    settings: dict[str, Any] = {"recipe": mm.Recipe(2, 16, mm.SGD(0.1)), "progress": False} | changes
    model = settings.pop("model", None) or nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    try:
        mm.fit(model, ((x, y), (x, y)), **settings)
    except ValueError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"recipe": mm.Recipe(2, 16, mm.SGD(0.2))}, "recipe.optimizer.lr is 0.2, not 0.1."),
        (
            {"recipe": mm.Recipe(3, 16, mm.SGD(0.1), clip=1.0)},
            "recipe.epochs is 3, not 2; recipe.clip is 1.0, not 0.0.",
        ),
        ({"seed": 1}, "seed is 1, not 0."),
        ({"run": "somewhere"}, "run is 'a folder', not None."),
        ({"method": "layerwise"}, "method is"),
        ({"parallel": "fsdp"}, "parallel is 'fsdp', not None."),
        ({"model": nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))}, "shape.0.weight is (9, 6), not (8, 6)"),
    ],
)
def test_ranks_with_other_settings_are_refused_by_name_before_training(
    changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    messages = on_ranks(2, tmp_path, lambda rank, _: _train(**changes if rank else {}))
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"MisuseError: rank 1 was not started as rank 0 was: {named}")


def test_ranks_with_other_code_are_refused_by_name(tmp_path: Path) -> None:
    module = cast(Any, import_module("minimand.training.fit"))

    def job(rank: int, _: Path) -> Any:
        if rank:
            others = {"torch": "1.0", "the code of minimand": "0"}
            module.code_and_versions = lambda: code_and_versions() | others
        return _train()

    messages = on_ranks(2, tmp_path, job)
    assert "torch is '1.0', not " in messages[0]
    assert "the code of minimand is '0', not " in messages[0]


def test_a_rank_that_is_stopped_ends_the_run_in_the_time_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIMEOUT, "2")

    def job(rank: int, folder: Path) -> Any:
        own = folder / "pid"

        def stop(event: Event) -> None:
            if isinstance(event, StepDone) and event.step == 3:
                os.kill(int(own.read_text()), signal.SIGSTOP)

        if rank:
            own.write_text(str(os.getpid()))
            return _train(run=folder / "run")
        began = time.monotonic()
        message = _train(callbacks=[stop], run=folder / "run")
        os.kill(int(own.read_text()), signal.SIGKILL)
        return message, time.monotonic() - began

    (message, seconds), other = on_ranks(2, tmp_path, job)
    assert other is None
    assert seconds < 20
    assert "LostProcessError: another of the 2 processes has not answered for 2 seconds" in message
    assert f"{TIMEOUT}=600" in message


def test_a_port_in_use_and_a_time_that_is_none_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        def job(rank: int, _: Path) -> Any:
            os.environ.update(MASTER_PORT=port, WORLD_SIZE="2")
            return _train()

        (message,) = on_ranks(1, tmp_path, job)
    assert message.startswith(f"MisuseError: the port of localhost:{port} is in use by another program; ")
    monkeypatch.setenv(TIMEOUT, "soon")
    with pytest.raises(ValueError, match=f"{TIMEOUT} is 'soon'; expected seconds, such as 120."):
        timeout()

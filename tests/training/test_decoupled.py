"""All modules at once: what moves, what one process and several agree on, and what ends when a rank is lost."""

import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from test_layerwise import digits, models, same
from torch import Tensor, nn

import minimand as mm
from minimand.training.decoupled import Decoupled, Group, balanced
from minimand.training.replay import Buffer
from minimand.training.team import RankLostError

RECIPE = mm.Recipe(2, 64, mm.SGD(0.05), ema=0.9, augmentation=mm.Augmentation(pad=1), mixup=0.3)


def planned(model: nn.Module, method: Decoupled | None = None) -> tuple[Group, nn.Module]:
    plan = (method or mm.Decoupled()).plan(model, lambda: digits(4)[0], 10, 1)
    (problem,) = plan.problems
    return cast(Group, problem.module), plan.saved


@pytest.mark.parametrize("name", models())
def test_a_module_has_the_gradient_of_its_own_loss(name: str) -> None:
    """Against autograd through the whole network with every state detached, module by module."""
    torch.manual_seed(1)
    model = models()[name]
    group, saved = planned(model)
    x, y = digits(16)
    loss = nn.functional.cross_entropy
    twin, same_weights = planned(models()[name])
    same_weights.load_state_dict(saved.state_dict())
    group.train()
    value, outputs = mm.Decoupled().backward(group, x, y, loss)

    twin.train()
    state: Any = x
    expected: dict[str, Tensor] = {}
    for j, part in enumerate(cast(Any, twin.parts)):
        state, found = part(state)
        state = torch.utils._pytree.tree_map(torch.Tensor.detach, state)
        own = dict(part.named_parameters())
        local = loss(found, y)
        for key, gradient in zip(own, torch.autograd.grad(local, list(own.values()), allow_unused=True), strict=True):
            if gradient is not None:
                expected[f"parts.{j}.{key}"] = expected.get(f"parts.{j}.{key}", 0) + gradient
    torch.testing.assert_close(value, local.detach())
    torch.testing.assert_close(outputs, found.detach())
    reached = {key: p.grad for key, p in group.named_parameters(remove_duplicate=False) if p.grad is not None}
    for key, gradient in expected.items():
        if "coefficients" not in key:  # those gather from every layer that reads them
            torch.testing.assert_close(reached[key], gradient)
    group.eval()
    torch.testing.assert_close(group(x), model.eval()(x), rtol=1e-4, atol=1e-5)


def test_one_optimizer_is_as_many_as_there_are_modules() -> None:
    x, y = digits(64)
    group, _ = planned(models()["momentum"])
    twin, _ = planned(models()["momentum"])
    twin.load_state_dict(group.state_dict())
    one = mm.SGD(0.1).build(group)
    many = [mm.SGD(0.1).build(part) for part in twin.parts]
    for step in range(4):
        for net, optimizers in ((group, [one]), (twin, many)):
            torch.manual_seed(step)
            net.train().zero_grad()
            mm.Decoupled().backward(net, x, y, nn.functional.cross_entropy)
            for optimizer in optimizers:
                optimizer.step()
    assert same(group, twin)
    assert not same(group, planned(models()["momentum"])[0])


def test_what_a_module_draws_is_its_own() -> None:
    """A module without dropout learns the same whether or not another one draws random numbers."""
    x, y = digits(64)
    found = []
    for rate in (0.0, 0.5):
        torch.manual_seed(0)
        chain = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout(rate)),
            nn.Linear(16, 10),
        )
        options: dict[str, Any] = {"recipe": mm.Recipe(1, 16, mm.SGD(0.1), mixup=0.5), "method": mm.Decoupled()}
        mm.fit(chain, ((x, y), (x, y)), **options)
        found.append(cast(nn.Linear, chain[1]).weight.detach().clone())
    assert torch.equal(*found)


def test_activations_are_kept_of_one_module_at_a_time() -> None:
    model = models()["momentum"]
    group, _ = planned(model)
    x, y = digits(64)
    own = {t.untyped_storage().data_ptr() for t in [*group.parameters(), *group.buffers()]}
    alive: dict[int, int] = {}
    peak = 0

    class Kept:
        def __init__(self, t: Tensor) -> None:
            nonlocal peak
            self.t, self.key = t, t.untyped_storage().data_ptr()
            if self.key not in own:
                alive[self.key] = t.untyped_storage().nbytes()
                peak = max(peak, sum(alive.values()))

        def __del__(self) -> None:
            alive.pop(self.key, None)

    def highest(run: Callable[[], Any]) -> int:
        nonlocal peak
        peak = 0
        alive.clear()
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.t):
            run()
        return peak

    loss = nn.functional.cross_entropy
    decoupled = highest(lambda: mm.Decoupled().backward(group, x, y, loss))
    end_to_end = highest(lambda: loss(model(x), y).backward())
    state, each = x, []
    for part in cast(Any, group.parts):
        each.append(highest(lambda part=part, state=state: loss(part(state)[1], y).backward()))
        state = torch.utils._pytree.tree_map(torch.Tensor.detach, part(state)[0])
    assert decoupled <= 1.05 * max(each)
    assert decoupled < 0.7 * end_to_end


@given(
    capacity=st.integers(1, 5),
    most=st.none() | st.integers(1, 3),
    writes=st.lists(st.booleans(), max_size=40),
)
def test_the_buffer_is_the_published_one(capacity: int, most: int | None, writes: list[bool]) -> None:
    """Against slots that are written in a circle, with counts and times beside them."""
    buffer = Buffer[int](capacity, most)
    slots: list[int | None] = [None] * capacity
    counts, pointer = [0] * capacity, 0
    for now, write in enumerate(writes):
        if write:
            buffer.write(now)
            slots[pointer], counts[pointer] = now, 1
            pointer = (pointer + 1) % capacity
            continue
        filled = [i for i in range(capacity) if slots[i] is not None]
        allowed = [i for i in filled if most is None or counts[i] <= most]
        expected = None
        if allowed:
            fewest = min(counts[i] for i in allowed)
            chosen = max((i for i in allowed if counts[i] == fewest), key=lambda i: cast(int, slots[i]))
            counts[chosen] += 1
            expected = slots[chosen]
        assert buffer.read() == expected
    if any(writes):
        assert buffer.read(beyond=True) is not None


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.data())
def test_places_are_as_even_as_can_be(costs: list[int], draw: st.DataObject) -> None:
    count = draw.draw(st.integers(1, len(costs)))
    runs = balanced(costs, count)
    assert [j for run in runs for j in run] == list(range(len(costs)))
    assert len(runs) == count
    assert all(runs)

    def least(start: int, left: int) -> int:
        if left == 1:
            return sum(costs[start:])
        ends = range(start + 1, len(costs) - left + 2)
        return min(max(sum(costs[start:end]), least(end, left - 1)) for end in ends)

    assert max(sum(costs[j] for j in run) for run in runs) == least(0, count)


def test_bad_input_is_named() -> None:
    data = (digits(64), digits(32))
    for options, message in (
        ({"auxiliary": "mlp_s"}, "Did you mean 'mlp_sr'"),
        ({"buffer": 0}, "Decoupled.buffer is 0; expected an integer, at least 1"),
        ({"max_reuse": 2}, "max_reuse is 2, but nothing is kept; expected a buffer"),
        ({"modules": 1}, "Decoupled.modules is 1; expected an integer, at least 2"),
        ({"modules": 2, "block_size": 2}, "modules is 2 and block_size 2; expected one of them"),
        ({"block_size": 0}, "Decoupled.block_size is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            mm.Decoupled(**cast(Any, options))
    one = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Linear(9, 10))
    for model, method, message in (
        (one, mm.Decoupled(), "has 1 layers, which is 1 modules of 1; expected layers for 2 or more modules"),
        (
            models()["chain"],
            mm.Decoupled(modules=9),
            "has 3 layers, which is 3 modules of 1; expected layers for 9 modules",
        ),
        (models()["chain"], mm.Decoupled(buffer=2), "buffer is 2, but in one process modules take turns"),
        (nn.Linear(64, 10), mm.Decoupled(), "model is Linear; expected a network with stem"),
    ):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises((TypeError, ValueError), match=message):
            mm.fit(model, data, method=method)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_loss_that_is_not_finite_names_its_module() -> None:
    chain = nn.Sequential(nn.Flatten(), *(nn.Linear(64, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 10)))
    nn.init.constant_(cast(nn.Linear, chain[1]).weight, 1e38)
    with pytest.raises(mm.training.NonFiniteLossError, match=r"parts\.0\.layers\.0"):
        mm.fit(chain, (digits(64), digits(32)), method=mm.Decoupled())


# Ranks are forked from a process that has imported everything, as start-up would take most of their time.
_CONTEXT = multiprocessing.get_context("forkserver")


def deep() -> nn.Module:
    """With batch normalization, states that are tuples, transitions, and dropout."""
    torch.manual_seed(0)
    model = mm.create_model("resnet20(depth=4, width=4)", "heavy_ball(momentum=0.5)", in_channels=1)
    cast(Any, model).head.module.insert(2, nn.Dropout(0.2))
    cast(Any, model).stem.module.append(nn.Dropout(0.2))
    return model


def trained(model: nn.Module, run: Path | None, method: Decoupled | None = None, **options: Any) -> Any:
    options = {"recipe": RECIPE, "checkpoint_every": 0, **options}
    return mm.fit(model, (digits(), digits(100)), method=method or mm.Decoupled(), run=run, **options)


def _work(rank: int, ranks: int, folder: Path, job: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", world_size=ranks, rank=rank)
    try:
        found = job(rank, folder, *arguments)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        import traceback; traceback.print_exc()
    torch.save(found, folder / f"rank{rank}.pt")


def on_ranks(folder: Path, job: Callable[..., Any], *arguments: Any, ranks: int = 2) -> list[Any]:
    """What a job returns on each rank, or the error in words; None where it was killed."""
    _CONTEXT.set_forkserver_preload(["minimand.cli", "minimand.data", "minimand.training", "torch._dynamo", __name__])
    folder.mkdir()
    started: list[BaseProcess] = [
        _CONTEXT.Process(target=_work, args=(rank, ranks, folder, job, arguments)) for rank in range(ranks)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    files = [folder / f"rank{rank}.pt" for rank in range(ranks)]
    return [torch.load(file, weights_only=False) if file.is_file() else None for file in files]


def _fit(rank: int, folder: Path, run: Path | None, method: Decoupled, victim: int, at: int) -> Any:
    model, steps = deep(), 0
    real = Decoupled.backward

    def backward(self: Decoupled, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if rank == victim and steps == at:
            (folder / "killed").write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *arguments)

    Decoupled.backward = backward
    try:
        result = trained(model, run, method)
    except RankLostError as error:
        return f"{error} After {time.time() - float((folder / 'killed').read_text()):.2f} s"
    return model.state_dict(), [{k: v for k, v in h.items() if k != "seconds"} for h in result.history]


def test_ranks_give_what_one_process_gives(tmp_path: Path) -> None:
    """To the same bits, with dropout, mixed targets and averaged weights; on every rank the whole model."""
    expected = deep()
    result = trained(expected, None)
    history = [{k: v for k, v in record.items() if k != "seconds"} for record in result.history]
    for weights, found in on_ranks(tmp_path / "ranks", _fit, tmp_path / "run", mm.Decoupled(), -1, 0, ranks=3):
        assert found == history
        assert all(torch.equal(value, weights[key]) for key, value in expected.state_dict().items())
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["test_loss"] for line in lines] == [record["test_loss"] for record in history]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_rank_ends_the_others_and_the_run_goes_on(victim: int, tmp_path: Path) -> None:
    found = on_ranks(tmp_path / "lost", _fit, tmp_path / "run", mm.Decoupled(), victim, 7)
    assert found[victim] is None
    message, _, seconds = found[1 - victim].rpartition("After ")
    assert f"does not answer any more, so training ends on rank {1 - victim} too" in message
    assert "goes on from the last checkpoint" in message
    assert float(seconds.removesuffix(" s")) < 10
    kept = sorted((tmp_path / "run" / "checkpoints").glob("*.safetensors"))
    assert 0 < int(kept[-1].stem) < 8
    (weights, history), _ = on_ranks(tmp_path / "again", _fit, tmp_path / "run", mm.Decoupled(), -1, 0)
    expected = deep()
    result = trained(expected, None)
    assert [record["test_loss"] for record in history] == [record["test_loss"] for record in result.history]
    assert all(torch.equal(value, weights[key]) for key, value in expected.state_dict().items())


def test_with_a_buffer_ranks_do_not_wait(tmp_path: Path) -> None:
    """A rank whose predecessor sleeps trains on what it has; both learn, and agree on the result."""
    method = mm.Decoupled(buffer=3)
    (weights, history), (others, same_history) = on_ranks(tmp_path / "ranks", _sleepy, tmp_path / "run", method)
    assert history == same_history
    assert all(torch.equal(value, others[key]) for key, value in weights.items())
    assert history[-1]["step"] == 16
    reads = torch.load(tmp_path / "ranks" / "reads.pt", weights_only=False)
    assert len(reads) == 8
    assert len(set(reads)) < 8
    assert (tmp_path / "run" / "checkpoints" / "000000016.safetensors").is_file()


def _sleepy(rank: int, folder: Path, run: Path, method: Decoupled) -> Any:
    reads: list[int] = []
    real, read = Decoupled.backward, Buffer.read

    def backward(self: Decoupled, *arguments: Any) -> Any:
        if rank == 1:
            time.sleep(0.1)
        return real(self, *arguments)

    def noted(self: Buffer[Any], beyond: bool = False) -> Any:
        found = read(self, beyond)
        if found is not None:
            reads.append(found.word)
        return found

    Decoupled.backward, Buffer.read = backward, noted
    model = deep()
    result = trained(model, run, method)
    if rank == 0:
        torch.save(reads[: len(reads) // 2], folder / "reads.pt")
    return model.state_dict(), [{k: v for k, v in h.items() if k != "seconds"} for h in result.history]


def _misuse(rank: int, folder: Path, which: str, run: Path) -> Any:
    learnable = "heavy_ball(momentum=Learnable(0.5, 0, 1))"
    stages = mm.create_model("resnet20(depth=7, width=4)", learnable, in_channels=1)
    model, method = {
        "layerwise": (deep(), mm.Layerwise()),
        "too many": (models()["chain"], mm.Decoupled()),
        "shared": (stages, mm.Decoupled()),
        "fewer": (deep(), mm.Decoupled()),
    }[which]
    return mm.fit(model, (digits(), digits(100)), method=cast(Any, method), recipe=RECIPE, run=run)


@pytest.mark.parametrize(
    ("which", "ranks", "message"),
    [
        ("layerwise", 2, r"started 2 processes, but mm.Layerwise\(\) trains in one; expected mm.Decoupled"),
        ("too many", 3, "started 3 processes, but Sequential has 2 modules .* expected --nproc-per-node 2 or fewer"),
        ("shared", 2, "modules of rank . and rank . share .*coefficients.*expected constants there"),
        ("fewer", 2, "holds a run with another configuration: ranks was 3 and is 2"),
    ],
)
def test_misuse_of_ranks_is_named(which: str, ranks: int, message: str, tmp_path: Path) -> None:
    if which == "fewer":
        on_ranks(tmp_path / "before", _fit, tmp_path / "run", mm.Decoupled(), 1, 5, ranks=3)
    found = on_ranks(tmp_path / "ranks", _misuse, which, tmp_path / "run", ranks=ranks)
    assert re.search(message, found[0]), found

"""All modules at once: what moves, what one process and several agree on, and what ends when a rank is lost."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import minimand as mm
from layerwise_models import MODELS, new_model, same
from minimand.experiments.reopen import load_run
from minimand.layers.heads import PredictionSimilarity
from minimand.report import peak_saved_bytes
from minimand.training.distributed.pipeline import Buffer
from minimand.training.methods.local.decoupled import Decoupled, Group, balanced
from minimand.training.runs import checkpoint
from minimand.training.runs.run import RunError
from ranks import deep, digits, misuse_and_train, on_ranks, train_until_killed, train_with_a_slow_rank, trained


def planned(model: nn.Module, method: Decoupled | None = None) -> tuple[Group, nn.Module]:
    plan = (method or mm.Decoupled()).plan(model, lambda: digits(4)[0], 10, 1)
    (problem,) = plan.problems
    return cast(Group, problem.module), plan.saved


@pytest.mark.parametrize("name", MODELS)
def test_a_module_has_the_gradient_of_its_own_loss(name: str) -> None:
    """Against autograd through the whole network with every state detached, module by module."""
    torch.manual_seed(1)
    model = new_model(name)
    group, saved = planned(model)
    x, y = digits(16)
    loss = nn.functional.cross_entropy
    twin, same_weights = planned(new_model(name))
    same_weights.load_state_dict(saved.state_dict())
    group.train()
    value, outputs = mm.Decoupled().backward(group, x, y, loss)

    twin.train()
    state, logits, local = cast(Any, x), x, x
    expected: dict[str, Tensor] = {}
    for j, part in enumerate(twin.each):
        state, logits, _ = part(state)
        state = tree_map(torch.Tensor.detach, state)
        own = dict(part.named_parameters())
        local = loss(logits, y)
        for key, gradient in zip(own, torch.autograd.grad(local, list(own.values()), allow_unused=True), strict=True):
            if gradient is not None:
                expected[f"parts.{j}.{key}"] = expected.get(f"parts.{j}.{key}", 0) + gradient
    torch.testing.assert_close(value, local.detach())
    torch.testing.assert_close(outputs, logits.detach())
    reached = {key: p.grad for key, p in group.named_parameters(remove_duplicate=False) if p.grad is not None}
    for key, gradient in expected.items():
        if "coefficients" not in key:  # those gather from every layer that reads them
            torch.testing.assert_close(reached[key], gradient)
    group.eval()
    torch.testing.assert_close(group(x), model.eval()(x), rtol=1e-4, atol=1e-5)


def test_similarity_matching_is_in_the_loss_of_its_module() -> None:
    """With predsim the map that samples are compared by learns, and the last module's loss is the plain one."""
    method = mm.Decoupled(auxiliary="predsim")
    group, _ = planned(new_model("chain"), method)
    x, y = digits(16)
    value, outputs = method.backward(group, x, y, nn.functional.cross_entropy)
    torch.testing.assert_close(value, nn.functional.cross_entropy(outputs, y))
    for part in group.each[:-1]:
        head = cast(PredictionSimilarity, part.head)
        assert all(p.grad is not None and p.grad.any() for p in head.similar.parameters())


def test_one_optimizer_is_as_many_as_there_are_modules() -> None:
    x, y = digits(64)
    group, _ = planned(new_model("momentum"))
    twin, _ = planned(new_model("momentum"))
    twin.load_state_dict(group.state_dict())
    one = mm.SGD(0.1).build(group)
    many = [mm.SGD(0.1).build(part) for part in twin.each]
    for step in range(4):
        for net, optimizers in ((group, [one]), (twin, many)):
            torch.manual_seed(step)
            net.train().zero_grad()
            mm.Decoupled().backward(net, x, y, nn.functional.cross_entropy)
            for optimizer in optimizers:
                optimizer.step()
    assert same(group, twin)
    assert not same(group, planned(new_model("momentum"))[0])


def test_what_a_module_draws_is_its_own() -> None:
    """A module without dropout learns the same whether or not another one draws random numbers."""
    x, y = digits(64)
    weights = []
    for rate in (0.0, 0.5):
        torch.manual_seed(0)
        chain = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout(rate)),
            nn.Linear(16, 10),
        )
        options: dict[str, Any] = {"recipe": mm.Recipe(1, 16, mm.SGD(0.1), mixup=0.5), "method": mm.Decoupled()}
        mm.fit(chain, ((x, y), (x, y)), **options)
        weights.append(cast(nn.Linear, chain[1]).weight.detach().clone())
    assert torch.equal(*weights)


def test_activations_are_kept_of_one_module_at_a_time() -> None:
    model = new_model("momentum")
    group, _ = planned(model)
    x, y = digits(64)

    def highest(run: Callable[[], Any]) -> int:
        return peak_saved_bytes(run, group)

    loss = nn.functional.cross_entropy
    decoupled = highest(lambda: mm.Decoupled().backward(group, x, y, loss))
    end_to_end = highest(lambda: loss(model(x), y).backward())
    state, each = x, []
    for part in group.each:
        each.append(highest(lambda part=part, state=state: loss(part(state)[1], y).backward()))
        state = tree_map(torch.Tensor.detach, part(state)[0])
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


def test_a_run_is_opened_again_with_the_networks_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mm.create_model("mlp(depth=3, width=8)", in_channels=2, num_classes=2)
    data = mm.load_data("nested_rings", samples=100)
    mm.fit(model, data, method=mm.Decoupled(), recipe=mm.Recipe(2, 20, mm.SGD(0.05)), run=tmp_path / "run")
    opened = load_run(tmp_path / "run")
    assert same(opened.model, model)


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
        (
            one,
            mm.Decoupled(),
            "has 1 layers, of which 1 modules of 1 can be made; expected layers for 2 or more modules",
        ),
        (
            new_model("chain"),
            mm.Decoupled(modules=9),
            "has 3 layers, of which 3 modules of 1 can be made; expected layers for 9 modules",
        ),
        (new_model("chain"), mm.Decoupled(buffer=2), "buffer is 2, but in one process modules take turns"),
        (nn.Linear(64, 10), mm.Decoupled(), "Linear has no repeated blocks"),
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


def test_ranks_give_what_one_process_gives(tmp_path: Path) -> None:
    """To the same bits, with dropout, mixed targets and averaged weights; on every rank the whole model."""
    weights, history = trained(None)
    for messages, results, same_history in on_ranks(3, tmp_path / "ranks", misuse_and_train, tmp_path / "run"):
        for message, pattern in zip(
            messages,
            (
                "parallel is 'ddp', but Decoupled places its modules itself; expected parallel=None",
                "started 3 processes, but Sequential has 2 modules .* expected --nproc-per-node 2 or fewer",
                "modules of rank . and rank . share .*coefficients.*; expected constants there",
            ),
            strict=True,
        ):
            assert re.search(pattern, message)
        assert same_history == history
        assert all(torch.equal(value, results[key]) for key, value in weights.items())
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["test_loss"] for line in lines] == [record["test_loss"] for record in history]
    saved, _ = checkpoint.load_last(tmp_path / "run" / "checkpoints")
    assert saved is not None
    assert saved.tensors["average"].keys() - {"n_averaged"} == {f"module.{k}" for k in planned(deep())[0].state_dict()}


def test_a_lost_rank_ends_the_others_and_the_run_goes_on(tmp_path: Path) -> None:
    results = on_ranks(3, tmp_path / "lost", train_until_killed, tmp_path / "run", 1, 7)
    assert results[1] is None
    for rank in (0, 2):
        message, seconds = results[rank]
        assert "does not answer any more, so training ends here too" in message
        assert "goes on from the last checkpoint" in message
        assert seconds < 10
    files = sorted((tmp_path / "run" / "checkpoints").glob("*.safetensors"))
    assert 0 < int(files[-1].stem) < 8
    with pytest.raises(RunError, match="another configuration: ranks was 3 and is None"):
        trained(tmp_path / "run")
    weights, history = trained(None)
    for again, same_history in on_ranks(3, tmp_path / "again", train_until_killed, tmp_path / "run", 3, 0):
        assert same_history == history
        assert all(torch.equal(value, again[key]) for key, value in weights.items())


def test_with_a_buffer_a_rank_does_not_wait(tmp_path: Path) -> None:
    """Where the rank before is slow it trains again on what it has, and both have the same result."""
    (weights, history, seeds), (others, same_history, _) = on_ranks(
        2, tmp_path / "ranks", train_with_a_slow_rank, tmp_path / "run"
    )
    assert history == same_history
    assert history[-1]["step"] == len(seeds) == 8
    assert 1 <= len(set(seeds)) < 8
    assert all(torch.equal(value, others[key]) for key, value in weights.items())
    assert (tmp_path / "run" / "checkpoints" / "000000008.safetensors").is_file()

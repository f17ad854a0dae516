"""Every algorithm with every family of blocks under both bindings: what each such network has to hold."""

import copy
import pickle
from collections.abc import Iterator
from functools import cache
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from helpers import ALGORITHMS, BINDINGS, FAMILIES, A, by_layers, make_stage
from minimand.algorithms import is_map, is_proximal, leaves
from minimand.networks import unrolled
from minimand.networks.unrolled import Unrolled, UnrolledLayer
from minimand.theory.kernel import INPUT, Binding, Kernel, Query, consistency, kernel
from minimand.theory.symbols import Combination
from sweeps import crossed

DEPTH = 4


@pytest.fixture(scope="module", autouse=True)
def _programs_once() -> Iterator[None]:
    """A program depends on algorithm, depth and binding alone: all families share it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unrolled, "program_of", cache(unrolled.program_of))
        yield


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize(
    ("name", "family"), crossed(ALGORITHMS, FAMILIES, through=("heavy_ball learnable", "two_layer"))
)
def test_every_network(name: str, family: str, binding: Binding) -> None:
    stage, other = (make_stage(ALGORITHMS[name], binding, DEPTH, family, seed) for seed in (0, 1))
    for k, vector in enumerate(stage.coefficients.values()):
        vector.data = 0.5 + k / 100 + torch.linspace(0, 0.3, len(vector), dtype=torch.double)
    x = torch.randn(FAMILIES[family].shape, dtype=torch.double, requires_grad=True)
    _keeps_its_shape(stage, x)
    _runs_as_its_layers(stage, x)
    _computes_its_kernel(stage, x)
    _has_its_gradient(stage, x)
    _round_trips(stage, other, x)
    _rests(stage, x)


def _keeps_its_shape(stage: Unrolled, x: Tensor) -> None:
    """The output and every tensor of every state, of which there are as many as the kernel counts."""
    assert stage(x).shape == x.shape
    states = [stage.start(x)]
    for layer in stage.layers:
        states.append(layer(states[-1]))
    assert {leaf.shape for state in states for leaf in leaves(state)} == {x.shape}
    assert tuple(len(leaves(state)) for state in states) == _kernel(stage.algorithm).memory


def _runs_as_its_layers(stage: Unrolled, x: Tensor) -> None:
    """The fast stage and its layers are one function, in values and gradients."""
    outputs = stage(x), by_layers(stage, x)
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-11)
    variables, weights = [x, *stage.parameters()], torch.randn_like(x)
    gradients = [torch.autograd.grad(y, variables, weights, materialize_grads=True) for y in outputs]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-9)


def _computes_its_kernel(stage: Unrolled, x: Tensor) -> None:
    """Symbols and tensors agree, on linear blocks and on any other: the blocks answer the kernel's queries."""
    read = _kernel(stage.learned(), stage.binding)
    values: dict[Any, Tensor] = {INPUT: x}
    for query in read.queries:
        values[query.answer] = _answer(stage, query, values)
    torch.testing.assert_close(stage(x), _value(read.output, values), rtol=1e-10, atol=1e-10)


def _has_its_gradient(stage: Unrolled, x: Tensor) -> None:
    """Along one random direction of all parameters and the input, by central differences of order four.

    They are off by h^4 |f^(5)| / 30 and by rounding, 1.5 eps |f| / h. With h = 1e-4 both are below 1e-11 where f
    varies on a scale of 0.05 or more; 1e-9 leaves room for normalizations over few numbers, which bend f more.
    """
    stage = _smooth(copy.deepcopy(stage))
    values = [x, *stage.parameters()]
    names = [name for name, _ in stage.named_parameters()]
    weights = torch.randn_like(x)
    directions = [torch.randn_like(value) for value in values]
    size = torch.stack([d.square().sum() for d in directions]).sum().sqrt()

    def f(x: Tensor, *parameters: Tensor) -> Tensor:
        by_name = dict(zip(names, parameters, strict=True))
        return (weights * torch.func.functional_call(stage, by_name, (x,))).sum()

    def along(h: float) -> float:
        with torch.no_grad():
            return f(*[v + h / size * d for v, d in zip(values, directions, strict=True)]).item()

    output = f(*values)
    gradients = torch.autograd.grad(output, values, materialize_grads=True)
    slope = sum((g * d).sum().item() for g, d in zip(gradients, directions, strict=True)) / size.item()
    steepest = torch.stack([g.square().sum() for g in gradients]).sum().sqrt().item()
    h = 1e-4
    expected = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
    assert abs(slope - expected) <= 1e-9 * (steepest + abs(output.item()))


@torch.no_grad()
def _round_trips(stage: Unrolled, other: Unrolled, x: Tensor) -> None:
    """State dicts, copies and pickles keep the function; a copy is on its own."""
    expected = stage.eval()(x)
    assert not torch.equal(other.eval()(x), expected)
    other.load_state_dict(stage.state_dict())
    assert torch.equal(other(x), expected)
    if "<lambda>" not in str(stage.algorithm):  # which cannot be pickled
        assert torch.equal(pickle.loads(pickle.dumps(stage))(x), expected)
    copied = copy.deepcopy(stage)
    for parameter in stage.parameters():
        parameter.add_(0.1)
    assert not torch.equal(stage(x), expected)
    assert torch.equal(copied(x), expected)
    assert torch.equal(by_layers(copied, x), by_layers(other, x))


@torch.no_grad()
def _rests(stage: Unrolled, x: Tensor) -> None:
    """T = 0 under `residual` and T = identity under `operator` leave the input as it is, where it is consistent."""
    rests = consistency(_kernel(stage.learned()))[0]
    for parameter in stage.layers.parameters():
        parameter.zero_()
    if stage.binding == "operator":
        for k in range(DEPTH):
            for oracle in stage.algorithm.oracles:
                if not is_proximal(oracle) and not is_map(oracle):
                    _block(stage, k, oracle).register_forward_hook(lambda _, inputs, answer: inputs[0] + answer)
    assert torch.allclose(stage(x), x, rtol=0, atol=1e-12) == rests
    assert rests or isinstance(stage.algorithm, _WITH_FREE_SUMS)


_WITH_FREE_SUMS = (A.InputInjection, A.DenseFormer, A.HyperConnections)
"""Algorithms that are consistent only where some of their coefficients sum to a number."""


_kernels = cache(kernel)


def _kernel(algorithm: Any, binding: Binding | None = None) -> Kernel:
    return _kernels(algorithm, DEPTH, binding)


def _block(stage: Unrolled, k: int, oracle: str) -> nn.Module:
    block = cast(UnrolledLayer, stage.layers[k]).block
    return block[oracle] if isinstance(block, nn.ModuleDict) else block


def _answer(stage: Unrolled, query: Query, values: dict[Any, Tensor]) -> Tensor:
    block = _block(stage, query.answer.layer, query.answer.oracle)
    if not is_proximal(query.answer.oracle):
        return block(_value(query.point, values))
    # The query is the new point p itself, asked for at v with step size s and answered by a: p = v + s a under
    # `residual`, p = (v + s a) / (1 + s) under `operator`.
    share = float(query.point.coefficient(query.answer))
    rest = _value(query.point, values | {query.answer: torch.zeros(())})
    s = share if stage.binding == "residual" else share / (1 - share)
    v = rest if stage.binding == "residual" else (1 + s) * rest
    return (block(v, s) - rest) / share


def _value(point: Combination, values: dict[Any, Tensor]) -> Tensor:
    return cast(Tensor, sum(float(c) * values[atom] for atom, c in point.terms.items()))


def _smooth(stage: Unrolled) -> Unrolled:
    """Without the kinks of ReLU; those of a soft threshold are too few to be met."""
    for module in list(stage.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Tanh())
    return stage

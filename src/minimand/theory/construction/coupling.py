"""Coupling steps of an algorithm: blocks whose pulses move its state, at rest at z, to rest at z + h(z)."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ...algorithms import Algorithm, is_map, is_proximal
from ...blocks.proximal import Prox
from ...blocks.transformer import HalfStep, ParallelLayer, SecondHalfStep, WholeLayer
from ..kernel import Binding, consistency, kernel
from ..scalars import TOLERANCE
from ..splitting import Splitting
from ..universality.pulses import Turn, lasting_pulses, responses, turns

Block = nn.Module | Mapping[str, nn.Module]


class Shear(NamedTuple):
    """A step z + h(z), h from some channels into others."""

    part: str
    """The part of a layer that answers: `attention`, or the `map`; they are one where the block is not cut."""
    times: Callable[[float], nn.Module]
    """Makes the module z -> w h(z) of a weight w."""


class Silent(nn.Module):
    """The block T(z) = 0, which moves nothing."""

    def forward(self, z: Tensor) -> Tensor:
        """The answer 0, in the shape of z."""
        return torch.zeros_like(z)


class Skipping(nn.Module):
    """T(z) = z + h(z), as the operator binding has it."""

    def __init__(self, moves: nn.Module) -> None:
        super().__init__()
        self.moves = moves

    def forward(self, z: Tensor) -> Tensor:
        """The sum, of the shape of z."""
        return z + self.moves(z)


class ImplicitStep(Prox):
    """An implicit step p = v + s h(v), which solves p = v + s h(p), as h reads nothing that it moves."""

    def __init__(self, moves: nn.Module) -> None:
        super().__init__()
        self.moves = moves

    def forward(self, point: Tensor, step_size: float | Tensor) -> Tensor:
        """The new point, of the shape of `point`."""
        return point + step_size * self.moves(point)


def check_constructible(algorithm: Algorithm, depth: int) -> None:
    """Raise MinimandError where the input does not survive to the last layer, or a map mixes all channels."""
    if any(map(is_map, algorithm.oracles)):
        raise MinimandError(f"{algorithm} normalizes a part of its state; no construction is known for it.")
    consistent, why = consistency(kernel(algorithm, depth))
    if not consistent:
        name = type(algorithm).__name__
        raise MinimandError(f"{name} is not consistent: {why}; the input would not survive to the last layer.")


def step(algorithm: Algorithm, binding: Binding, answers: Mapping[str, nn.Module]) -> Block:
    """The block of a step, with what each oracle answers; those left out answer 0."""
    blocks = {oracle: _bound(answers.get(oracle, Silent()), oracle, binding) for oracle in algorithm.oracles}
    return blocks if len(blocks) > 1 else blocks[algorithm.oracles[0]]


def coupled(
    algorithm: Algorithm, binding: Binding, shears: Sequence[Shear], splitting: Splitting | None = None
) -> list[Block]:
    """The blocks with which an algorithm takes coupling steps one after another, each in as many layers as pulses.

    Raises:
        MinimandError: the algorithm, cut like this, has no pulses for a part that answers.
    """
    check_constructible(algorithm, 2)
    by_part = {part: turn for part, turn in _turns(algorithm, splitting).items() if any(s.part == part for s in shears)}
    length = max(_length(algorithm, part, turn, splitting) for part, turn in by_part.items())
    layers = length * len(shears)
    answered = {part: responses(algorithm, turn, 0, layers) for part, turn in by_part.items()}
    blocks: list[Block] = []
    for first, shear in zip(range(0, layers, length), shears, strict=True):
        weights, residual = answered[shear.part].weights(first, length)
        if residual > TOLERANCE:
            raise MinimandError(
                f"{algorithm} has no {length} pulses from layer {first} on: they miss by {residual:.1g}."
            )
        for weight in weights.tolist():
            blocks += _layer(algorithm, binding, splitting, shear.part, shear.times(weight))
    return blocks


def _turns(algorithm: Algorithm, splitting: Splitting | None) -> dict[str, Turn]:
    oracles = [oracle for oracle in algorithm.oracles if not is_proximal(oracle)] or list(algorithm.oracles)
    if len(algorithm.oracles) == 1 or (len(oracles) == 2 and len(algorithm.oracles) == 2):
        return turns(algorithm, splitting)
    return {part: Turn(oracles[0], 1, {0: 1.0}) for part in ("attention", "map")}


def _length(algorithm: Algorithm, part: str, turn: Turn, splitting: Splitting | None) -> int:
    weights = lasting_pulses(algorithm, turn, 100)
    if weights is None:
        cut = f" for the {part} under {splitting} splitting" if splitting else ""
        raise MinimandError(f"{algorithm} has no pulses{cut}, so no coupling steps (mm.theory.pulses).")
    return len(weights)


def _layer(
    algorithm: Algorithm, binding: Binding, splitting: Splitting | None, part: str, module: nn.Module
) -> list[Block]:
    """The blocks of a layer in which one part answers and the other is silent."""
    if splitting is None:
        return [step(algorithm, binding, {_turns(algorithm, None)[part].oracle: module})]
    attend, map = (module if part == name else Silent() for name in ("attention", "map"))
    if splitting == "strang":
        half = HalfStep(attend)
        cut = [half, map, SecondHalfStep(half)]
    elif splitting == "lie_trotter":
        cut = [attend, map]
    else:
        cut = [(WholeLayer if splitting == "whole" else ParallelLayer)(attend, map)]
    return [step(algorithm, binding, {algorithm.oracles[0]: block}) for block in cut]


def _bound(module: nn.Module, oracle: str, binding: Binding) -> nn.Module:
    if is_proximal(oracle):
        return ImplicitStep(module)
    if binding == "operator":
        return nn.Identity() if isinstance(module, Silent) else Skipping(module)
    return module

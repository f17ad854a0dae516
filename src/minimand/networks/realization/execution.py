"""Programs run as passes over tensors."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.fx import Proxy

from ...theory.scalars import Number
from .program import Add, Ask, Program, Scale, is_interpolation

AskBlock = Callable[[int, str, Tensor], Tensor]
"""A function from (layer, oracle, point) to the answer of the block."""
Learned = dict[str, tuple[Tensor, ...]]
"""The values of learnable coefficients by name and layer."""
Factor = float | Tensor


class Execution:
    """A program ready to run, its factors floats or functions of the learnable coefficients."""

    def __init__(self, program: Program) -> None:
        self.output = program.output
        self.asks = [n for n, i in enumerate(program.instructions) if isinstance(i, Ask)]
        self.queries = [i.point for i in program.instructions if isinstance(i, Ask)]
        self.registers = 1 + max((i.target for i in program.instructions), default=0)
        passes = zip(program.instructions, program.overwritten(), program.last_uses(), strict=True)
        self.passes = [(_runner(i, overwritten), i.target, dead) for i, overwritten, dead in passes]

    def __call__(self, ask: AskBlock, x: Tensor, learned: Learned) -> Tensor:
        """The output of the program for the input x."""
        registers: list[Any] = [None] * self.registers
        registers[0] = x
        self._run(range(len(self.passes)), ask, registers, learned)
        return registers[self.output]

    def answer(self, registers: list[Any], k: int, answer: Tensor, learned: Learned) -> Tensor:
        """The query of the next block from the answer of the k-th one; after the last block the output."""
        last = k + 1 == len(self.asks)
        until = len(self.passes) if last else self.asks[k + 1]
        self._run(range(self.asks[k], until), lambda *_: answer, registers, learned)
        return registers[self.output if last else self.queries[k + 1]]

    def _run(self, passes: range, ask: AskBlock, registers: list[Any], learned: Learned) -> None:
        for i in passes:
            run, target, dead = self.passes[i]
            registers[target] = run(ask, registers, learned)
            for register in dead:
                registers[register] = None


Runner = Callable[[AskBlock, list[Tensor], Learned], Tensor]


def _runner(instruction: Ask | Add | Scale, overwritten: int | None) -> Runner:
    match instruction:
        case Ask(_, layer, oracle, point):
            return lambda ask, r, _: ask(layer, oracle, r[point])
        case Scale(_, source, factor):
            value = _factor(factor)
            return lambda _, r, learned: r[source] * value(learned)
        case Add():
            return _sum(instruction, overwritten)


def _sum(add: Add, overwritten: int | None) -> Runner:
    # The term without a factor comes first, and of two such the one whose memory the sum may take.
    (u, a), (v, b) = sorted(add.terms, key=lambda term: (not term[1].same(1), term[0] != overwritten))
    first, second = _factor(a), _factor(b)
    if a.same(1):
        in_place = u == overwritten
        return lambda _, r, learned: _add(r[u], r[v], second(learned), in_place)
    if is_interpolation(add):
        return lambda _, r, learned: _lerp(r[u], r[v], second(learned))
    return lambda _, r, learned: _add(r[u] * first(learned), r[v], second(learned), True)


def _factor(number: Number) -> Callable[[Learned], Factor]:
    if number.is_constant:
        value = float(number)
        return lambda _: value
    terms = [(float(c), monomial) for monomial, c in number.terms.items()]

    def evaluate(learned: Learned) -> Tensor:
        total: Any = 0.0
        for c, monomial in terms:
            product: Any = c
            for unknown, power in monomial:
                name, k = cast(tuple[str, int], unknown)
                product = product * learned[name][k] ** power
            total = total + product
        return total

    return evaluate


def _add(u: Tensor, v: Tensor, factor: Factor, in_place: bool) -> Tensor:
    """u + factor v, in one pass; in the memory of u if that is allowed and holds the result's type."""
    if not isinstance(u, Proxy) and u.dtype != v.dtype:  # under autocast a block may answer in another precision
        return u + factor * v
    if isinstance(factor, Tensor):
        factor = factor if isinstance(v, Proxy) else factor.to(v.dtype)
        return u.addcmul_(v, factor) if in_place else torch.addcmul(u, v, factor)
    return u.add_(v, alpha=factor) if in_place else torch.add(u, v, alpha=factor)


def _lerp(u: Tensor, v: Tensor, weight: Factor) -> Tensor:
    """(1 - weight) u + weight v, in one pass."""
    if isinstance(u, Proxy):
        return torch.lerp(u, v, weight)
    common = torch.promote_types(u.dtype, v.dtype)
    return torch.lerp(u.to(common), v.to(common), weight.to(common) if isinstance(weight, Tensor) else weight)

"""A straight-line program for a stage: blocks to ask, and passes over memory between them, which tensors run."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torch.fx import Proxy

from ...algorithms import is_map
from ...theory.kernel import Binding
from ...theory.scalars import Number

AskBlock = Callable[[int, str, Tensor], Tensor]
"""A function from (layer, oracle, point) to the answer of the block."""
Learned = Mapping[str, tuple[Any, ...]]
"""The values of learnable and drawn coefficients by name and layer: a tensor or number, or tuples of such."""
Factor = float | Tensor


@dataclass(frozen=True)
class Ask:
    """The instruction register[target] = block of `oracle` in `layer`, applied to register[point]."""

    target: int
    layer: int
    oracle: str
    point: int


@dataclass(frozen=True)
class Add:
    """The instruction register[target] = left_factor register[left] + right_factor register[right]."""

    target: int
    left: int
    right: int
    left_factor: Number
    right_factor: Number

    @property
    def terms(self) -> tuple[tuple[int, Number], tuple[int, Number]]:
        """The two registers that are added, each with its factor."""
        return (self.left, self.left_factor), (self.right, self.right_factor)


@dataclass(frozen=True)
class Scale:
    """The instruction register[target] = factor register[source]."""

    target: int
    source: int
    factor: Number


Instruction = Ask | Add | Scale


@dataclass(frozen=True)
class Program:
    """Instructions that compute a stage; the first registers hold its inputs."""

    instructions: tuple[Instruction, ...]
    output: int
    binding: Binding
    inputs: int = 1

    @cached_property
    def cost(self) -> int:
        """The number of passes over memory in a training step: forward, scaled gradients, and gradients to sum up."""
        passes = 0
        for instruction in self.instructions:
            if isinstance(instruction, Add):
                factors = (instruction.left_factor, instruction.right_factor)
                scaled = sum(not f.same(1) for f in factors)
                learned = sum(not f.is_constant for f in factors)
                passes += 1 + scaled + (scaled == 2 and not is_interpolation(instruction)) + 2 * learned
            elif isinstance(instruction, Scale):
                passes += 2
        return passes + sum(n - 1 for n in self._reads().values())

    def _reads(self) -> Counter[int]:
        return Counter(register for instruction in self.instructions for register in sources(instruction))

    @cached_property
    def cancellation(self) -> float:
        """The factor by which rounding errors may exceed those of a plain sum of the size of the result.

        The larger of two views: each sum against its terms, in the coordinates of input and answers; and what
        the terms of each sum contribute to the output of a network at rest.
        """
        return max(self._cancellation_in_sums(), self._cancellation_at_rest())

    def _cancellation_in_sums(self) -> float:
        vectors: dict[int, dict[int, float]] = {i: {i: 1.0} for i in range(self.inputs)}
        worst = 1.0
        for instruction in self.instructions:
            match instruction:
                case Ask(target):
                    vectors[target] = {target: 1.0}
                case Scale(target, source, factor):
                    typical = _typical(factor)
                    vectors[target] = {i: v * typical for i, v in vectors[source].items()}
                case Add(target, left, right, a, b):
                    factors = ((left, _typical(a)), (right, _typical(b)))
                    terms = [(i, v * factor) for r, factor in factors for i, v in vectors[r].items()]
                    vectors[target] = total = {}
                    for i, v in terms:
                        total[i] = total.get(i, 0.0) + v
                    size = sum(map(abs, total.values()))
                    worst = max(worst, sum(abs(v) for _, v in terms) / size if size else math.inf)
        return worst

    def _cancellation_at_rest(self) -> float:
        values, worst = {i: float(i == 0) for i in range(self.inputs)}, 1.0
        passes = [(instruction.target, self._at_rest(instruction)) for instruction in self.instructions]
        for target, terms in passes:
            values[target] = sum(values[r] * f for r, f in terms)
        influence = dict.fromkeys(values, 0.0) | {self.output: 1.0}
        for target, terms in reversed(passes):
            heard = influence[target]
            worst = max(worst, abs(heard) * sum(abs(values[r] * f) for r, f in terms))
            for register, factor in terms:
                influence[register] += heard * factor
        return worst

    def _at_rest(self, instruction: Instruction) -> list[tuple[int, float]]:
        """The registers an instruction reads with their factors, where blocks are 0 or the identity."""
        match instruction:
            case Ask():
                is_identity = self.binding == "operator" and not is_map(instruction.oracle)
                return [(instruction.point, 1.0 if is_identity else 0.0)]
            case Add(_, left, right, a, b):
                return [(left, _typical(a)), (right, _typical(b))]
            case Scale():
                return [(instruction.source, _typical(instruction.factor))]

    def overwritten(self) -> list[int | None]:
        """The register whose memory the result of each instruction may take: a sum that nothing else reads."""
        reads = self._reads() + Counter([self.output])
        free = {i.target for i in self.instructions if isinstance(i, Add) and reads[i.target] == 1}
        terms = [i.terms if isinstance(i, Add) else () for i in self.instructions]
        return [next((r for r, factor in pair if r in free and factor.same(1)), None) for pair in terms]

    def last_uses(self) -> list[tuple[int, ...]]:
        """The registers that nothing reads after each instruction."""
        read_later = {self.output}
        unread = []
        for instruction in reversed(self.instructions):
            read = set(sources(instruction))
            unread.append(tuple(read - read_later))
            read_later |= read
        return unread[::-1]


def _typical(factor: Number) -> float:
    """The value of a factor whose unknowns have a typical size."""
    if factor.is_constant:
        return float(sum(factor.terms.values()))
    return sum(float(c) * 0.7 ** sum(power for _, power in m) for m, c in factor.terms.items())


def sources(instruction: Instruction) -> tuple[int, ...]:
    if isinstance(instruction, Add):
        return (instruction.left, instruction.right)
    return (instruction.point if isinstance(instruction, Ask) else instruction.source,)


def is_interpolation(add: Add) -> bool:
    """Whether the factors of a sum add up to 1, as in (1 - w) left + w right."""
    return (add.left_factor + add.right_factor).same(1)


class Execution:
    """A program ready to run, its factors floats or functions of the learnable coefficients."""

    def __init__(self, program: Program) -> None:
        self.output = program.output
        self.asks = [n for n, i in enumerate(program.instructions) if isinstance(i, Ask)]
        self.queries = [i.point for i in program.instructions if isinstance(i, Ask)]
        self.inputs = program.inputs
        self.registers = 1 + max((i.target for i in program.instructions), default=program.inputs - 1)
        passes = zip(program.instructions, program.overwritten(), program.last_uses(), strict=True)
        self.passes = [(_runner(i, overwritten), i.target, dead) for i, overwritten, dead in passes]

    def __call__(self, ask: AskBlock, inputs: Sequence[Tensor], learned: Learned) -> Tensor:
        """The output of the program for its inputs."""
        registers: list[Any] = [*inputs, *[None] * (self.registers - self.inputs)]
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
            value = factor_of(factor)
            return lambda _, r, learned: r[source] * value(learned)
        case Add():
            return _sum(instruction, overwritten)


def _sum(add: Add, overwritten: int | None) -> Runner:
    # The term without a factor comes first, and of two such the one whose memory the sum may take.
    (u, a), (v, b) = sorted(add.terms, key=lambda term: (not term[1].same(1), term[0] != overwritten))
    first, second = factor_of(a), factor_of(b)
    if a.same(1):
        in_place = u == overwritten
        return lambda _, r, learned: _add(r[u], r[v], second(learned), in_place)
    if is_interpolation(add):
        return lambda _, r, learned: _lerp(r[u], r[v], second(learned))
    return lambda _, r, learned: _add(r[u] * first(learned), r[v], second(learned), True)


def factor_of(number: Number) -> Callable[[Learned], Factor]:
    """A scalar as a function of the learnable and drawn coefficients."""
    if number.is_constant:
        value = float(number)
        return lambda _: value
    terms = [(float(c), monomial) for monomial, c in number.terms.items()]

    def evaluate(learned: Learned) -> Tensor:
        total: Any = 0.0
        for c, monomial in terms:
            product: Any = c
            for unknown, power in monomial:
                name, *indices = cast(tuple[str, int], unknown)
                value: Any = learned[name]
                for index in indices:
                    value = value[index]
                product = product * value**power
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

"""The cheapest straight-line program for a stage, chosen from what its queries and output are combinations of.

An algorithm is run on symbols whose atoms are tensors that exist. A query that is a combination of several has
to be computed, and each way of computing it leaves other tensors behind to express the rest of the state by:
heavy ball, written with x and the previous x, can run on x and the velocity. Every policy below gives a correct
program; the one that passes over memory least often is taken.
"""

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import product
from operator import itemgetter
from typing import Literal, cast, get_args

from ..algorithms import Algorithm
from ..algorithms._state import leaves, rebuild
from ..theory.kernel import Binding
from ..theory.symbols import Combination, Number


@dataclass(frozen=True)
class Ask:
    """register[target] = block of `oracle` in `layer`, applied to register[point]."""

    target: int
    layer: int
    oracle: str
    point: int


@dataclass(frozen=True)
class Add:
    """register[target] = left_factor register[left] + right_factor register[right]."""

    target: int
    left: int
    right: int
    left_factor: Number
    right_factor: Number


@dataclass(frozen=True)
class Scale:
    """register[target] = factor register[source]."""

    target: int
    source: int
    factor: Number


Instruction = Ask | Add | Scale

_ALLOWED_CANCELLATION = 16.0


@dataclass(frozen=True)
class Program:
    """Instructions that compute a stage; register 0 holds the input."""

    instructions: tuple[Instruction, ...]
    output: int

    @property
    def cost(self) -> int:
        """Passes over memory in a training step: forward, scaled gradients, and gradients to sum up."""
        passes = 0
        uses: dict[int, int] = {}
        for instruction in self.instructions:
            for register in sources(instruction):
                uses[register] = uses.get(register, 0) + 1
            if isinstance(instruction, Add):
                factors = (instruction.left_factor, instruction.right_factor)
                scaled = sum(not f.same(1) for f in factors)
                learned = sum(not f.is_constant for f in factors)
                passes += 1 + scaled + (scaled == 2 and not is_interpolation(instruction)) + 2 * learned
            elif isinstance(instruction, Scale):
                passes += 2
        return passes + sum(n - 1 for n in uses.values())

    @property
    def cancellation(self) -> float:
        """How much larger than its result the terms of a sum get, in the coordinates of input and answers."""
        vectors: dict[int, dict[int, float]] = {0: {0: 1.0}}
        worst = 1.0
        for instruction in self.instructions:
            match instruction:
                case Ask(target):
                    vectors[target] = {target: 1.0}
                case Scale(target, source, factor):
                    vectors[target] = {i: v * _typical(factor) for i, v in vectors[source].items()}
                case Add(target, left, right, a, b):
                    terms = [(i, v * _typical(f)) for r, f in ((left, a), (right, b)) for i, v in vectors[r].items()]
                    vectors[target] = total = {}
                    for i, v in terms:
                        total[i] = total.get(i, 0.0) + v
                    size = sum(map(abs, total.values()))
                    worst = max(worst, sum(abs(v) for _, v in terms) / size if size else math.inf)
        return worst

    def last_uses(self) -> list[tuple[int, ...]]:
        """For each instruction the registers that nothing reads after it."""
        seen = {self.output}
        found = []
        for instruction in reversed(self.instructions):
            read = set(sources(instruction))
            found.append(tuple(read - seen))
            seen |= read
        return found[::-1]


def _typical(factor: Number) -> float:
    """The value of a factor whose unknowns have a typical size."""
    return sum(float(c) * 0.7 ** sum(power for _, power in m) for m, c in factor.terms.items())


def sources(instruction: Instruction) -> tuple[int, ...]:
    """The registers an instruction reads."""
    match instruction:
        case Ask():
            return (instruction.point,)
        case Add():
            return (instruction.left, instruction.right)
        case Scale():
            return (instruction.source,)


def is_interpolation(add: Add) -> bool:
    """Whether the factors sum to 1, as in (1 - w) left + w right."""
    return (add.left_factor + add.right_factor).same(1)


def cheapest_program(algorithm: Algorithm, depth: int, binding: Binding) -> Program:
    """The program with the fewest passes among the policies' programs.

    Args:
        algorithm: its coefficients give numbers, or `Number.unknown` where they are learnable.
        depth: the number of layers, at least 1.
        binding: how a block becomes a gradient.

    Raises:
        UnknownCoefficientError: the step needs the value of a learnable coefficient.
    """
    programs = [_Machine(algorithm, binding, *policy).run(depth) for policy in _policies()]
    # Where the cheapest would lose digits to cancellation the next one will not: one program adds as written.
    calm = [program for program in programs if program.cancellation <= _ALLOWED_CANCELLATION]
    return min(calm or programs, key=lambda program: program.cost if calm else program.cancellation)


Order = Literal["oldest first", "newest first", "query last"]


def _policies() -> Iterator[tuple[bool, bool, Order]]:
    """as_written, replace_older, order: see `_Machine`."""
    return product((False, True), (False, True), get_args(Order))


class _Machine:
    """Runs an algorithm on combinations of registers and writes down the passes that its queries need.

    as_written: compute each tensor of the state after each step, as the step has it, not only the queries.
    replace_older: once t = a u + b v is computed, express the older of u, v (the newer, where the factor of the
    older is learnable) by the other one and t. This turns the previous x of heavy ball into a velocity.
    order: in which sums are added up; `query last` is newest first but for what the block was last asked at.
    """

    def __init__(
        self, algorithm: Algorithm, binding: Binding, as_written: bool, replace_older: bool, order: Order
    ) -> None:
        self.algorithm, self.binding = algorithm, binding
        self.as_written, self.replace_older, self.order = as_written, replace_older, order
        self.query = 0
        self.instructions: list[Instruction] = []
        self.replaced: dict[Hashable, Combination] = {}

    def run(self, depth: int) -> Program:
        state = self.algorithm.start(Combination.atom(0))
        for k in range(depth):
            state = self.algorithm.step(state, *[self._oracle(k, name) for name in self.algorithm.oracles], k)
            if self.as_written and k < depth - 1:
                state = rebuild(state, [self._computed(leaf) for leaf in leaves(state)])
        output = self._register(self.algorithm.read(state))
        return Program(_without_unread(self.instructions, output), output)

    def _oracle(self, layer: int, name: str) -> Callable[[Combination], Combination]:
        def ask(point: Combination) -> Combination:
            self.query = register = self._register(point)
            answer = Combination.atom(self._emit(Ask(self._next, layer, name, register)))
            return -answer if self.binding == "residual" else Combination.atom(register) - answer

        return ask

    @property
    def _next(self) -> int:
        return len(self.instructions) + 1  # every instruction fills one register; 0 is the input

    def _emit(self, instruction: Instruction) -> int:
        self.instructions.append(instruction)
        return instruction.target

    def _computed(self, leaf: Combination) -> Combination:
        # A multiple of one register needs no pass: the factor goes into the sums that read it.
        current = self._current(leaf)
        return current if len(current.terms) < 2 else Combination.atom(self._register(current))

    def _current(self, combination: Combination) -> Combination:
        while any(register in self.replaced for register in combination.terms):
            combination = combination.substitute(self.replaced.get)
        return combination

    def _register(self, combination: Combination) -> int:
        """The register that holds a combination; emits the passes if none does."""
        terms = self._current(combination).terms
        registers = sorted(cast(dict[int, Number], terms), reverse=self.order != "oldest first")
        if self.order == "query last":
            registers.sort(key=lambda register: register == self.query)
        if not registers:
            return self._emit(Scale(self._next, 0, Number.of(0)))
        register, factor = registers[0], terms[registers[0]]
        for i, other in enumerate(registers[1:], start=2):
            a, b = factor, terms[other]
            factor = Number.of(1)
            # A partial sum may have any scale: take one that saves a multiplication.
            if i < len(registers) and not (a + b).same(1):
                factor = next((f for f in (a, b) if f.is_constant), factor)
                a, b = a / factor, b / factor
            register = self._add(register, other, a, b)
        return register if factor.same(1) else self._emit(Scale(self._next, register, factor))

    def _add(self, left: int, right: int, a: Number, b: Number) -> int:
        target = self._emit(Add(self._next, left, right, a, b))
        for register, factor, other, rest in sorted([(left, a, right, b), (right, b, left, a)], key=itemgetter(0)):
            if self.replace_older and factor.is_constant:
                replacement = Combination.atom(target) - rest * Combination.atom(other)
                self.replaced[register] = replacement / factor
                break
        return target


def _without_unread(instructions: list[Instruction], output: int) -> tuple[Instruction, ...]:
    """The blocks, and of the passes those that something reads."""
    read = {output}
    kept = []
    for instruction in reversed(instructions):
        if isinstance(instruction, Ask) or instruction.target in read:
            kept.append(instruction)
            read.update(sources(instruction))
    return tuple(reversed(kept))

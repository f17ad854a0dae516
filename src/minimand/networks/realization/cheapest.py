"""The cheapest straight-line program for a stage, chosen from what its queries and output are combinations of.

An algorithm is run on symbols whose atoms are tensors that exist. A query that is a combination of several has
to be computed, and each way of computing it leaves other tensors behind to express the rest of the state by:
heavy ball, written with x and the previous x, can run on x and the velocity. Every policy below gives a correct
program; the one that passes over memory least often is taken.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import product
from operator import itemgetter
from typing import Literal, cast, get_args

from ...algorithms import Algorithm, is_map, leaves, rebuild
from ...theory.kernel import Binding
from ...theory.scalars import Number
from ...theory.symbols import Combination
from .program import Add, Ask, Instruction, Program, Scale, sources

_ALLOWED_CANCELLATION = 8.0
_PILOT_LAYERS = 6


def cheapest_program(algorithm: Algorithm, depth: int, binding: Binding) -> Program:
    """The program for `depth` layers with the fewest passes among the policies' programs.

    The coefficients give numbers, or `Number.unknown` where they are learnable; UnknownCoefficientError is raised where
    the step needs the value of such a one.
    """

    @cache
    def program(policy: Policy, layers: int) -> Program:
        return _Machine(algorithm, binding, *policy).run(layers)

    short, long = min(depth, _PILOT_LAYERS), min(depth, 2 * _PILOT_LAYERS)

    def outlook(policy: Policy) -> tuple[float, float]:
        # What is cheapest for some layers is so for many, unless its sums grow; and much sooner found out.
        pilot = program(policy, long)
        growth = (pilot.cost - program(policy, short).cost) / _PILOT_LAYERS
        return pilot.cost + growth * (depth - long), pilot.cancellation

    written = program(_AS_WRITTEN, depth)
    if any(algorithm.shape(name, 0) for name in algorithm.coefficient_names()):
        return written  # products of tables of unknowns have more terms than the passes that they would save
    allowed = max(_ALLOWED_CANCELLATION, 2 * written.cancellation)
    # What cancels too much early is dropped early: its numbers may grow without bound.
    sound = (policy for policy in _policies() if all(program(policy, n).cancellation <= allowed for n in (short, long)))
    programs = (program(policy, depth) for policy in sorted(sound, key=outlook))
    return next((p for p in programs if p.cancellation <= allowed), written)


Order = Literal["oldest first", "newest first", "query last"]
Policy = tuple[bool, bool, Order]
"""The settings of `_Machine`: as_written, replace_older, order."""
_AS_WRITTEN: Policy = (True, False, "oldest first")


def _policies() -> Iterator[Policy]:
    return product((False, True), (False, True), get_args(Order))


@dataclass
class _Machine:
    """Runs an algorithm on combinations of registers and writes down the passes that its queries need.

    as_written: compute each tensor of the state after each step, as the step has it, not only the queries.
    replace_older: once t = a u + b v is computed, express the older of u, v (the newer, where the factor of the
    older is learnable) by the other one and t. This turns the previous x of heavy ball into a velocity.
    order: in which sums are added up; `query last` is newest first but for what the block was last asked at.
    """

    algorithm: Algorithm
    binding: Binding
    as_written: bool
    replace_older: bool
    order: Order
    query: int = 0
    instructions: list[Instruction] = field(default_factory=list)
    replaced: dict[Hashable, Combination] = field(default_factory=dict)

    def run(self, depth: int) -> Program:
        state = self.algorithm.start(*map(Combination.atom, range(self.inputs)))
        for k in range(depth):
            state = self.algorithm.step(state, *[self._oracle(k, name) for name in self.algorithm.oracles], k)
            if k < depth - 1:
                keep = self._computed if self.as_written else self._current
                state = rebuild(state, [keep(leaf) for leaf in leaves(state)])
        output = self._register(self.algorithm.read(state))
        return Program(_without_unread(self.instructions, output), output, self.binding, self.inputs)

    def _oracle(self, layer: int, name: str) -> Callable[[Combination], Combination]:
        def ask(point: Combination) -> Combination:
            self.query = register = self._register(point)
            answer = Combination.atom(self._emit(Ask(self._next, layer, name, register)))
            if is_map(name):
                return answer
            return -answer if self.binding == "residual" else Combination.atom(register) - answer

        return ask

    @cached_property
    def inputs(self) -> int:
        return len(self.algorithm.inputs)

    @property
    def _next(self) -> int:
        return len(self.instructions) + self.inputs  # every instruction fills one register, the inputs the first ones

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
        both_ways = [(left, a, right, b), (right, b, left, a)]
        for register, factor, other, other_factor in sorted(both_ways, key=itemgetter(0)):
            if self.replace_older and factor.is_constant:
                replacement = Combination.atom(target) - other_factor * Combination.atom(other)
                self.replaced[register] = replacement / factor
                break
        return target


def _without_unread(instructions: list[Instruction], output: int) -> tuple[Instruction, ...]:
    """The instructions that ask blocks, and the passes whose result something reads."""
    read = {output}
    live = []
    for instruction in reversed(instructions):
        if isinstance(instruction, Ask) or instruction.target in read:
            live.append(instruction)
            read.update(sources(instruction))
    return tuple(reversed(live))

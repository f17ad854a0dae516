"""An algorithm cut at its oracles, step by step, in exact numbers: what every other reading is made from.

A step turns the tensors of the state before it, and its answers, into queries and the state after it. Where its number
only chooses coefficients, steps of equal coefficients are one step, which is read once; elsewhere equal steps are one.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from .._support.errors import MinimandError, WrongTypeError
from ..algorithms import Algorithm, Read, leaves, rebuild
from .oracles import Answer, Binding, exactly, first_state, guarded, symbolic_oracles
from .scalars import TOLERANCE, Number
from .symbols import Combination

_KEPT_BITS = 4096  # of a gain; what is longer is rounded, to more digits than a float tells apart
_AHEAD = 2  # queries beyond the last computed one that are computed with all before them, not alone


_ONE = Number.of(1).terms

Terms = list[tuple[Hashable, float]]


class Slot(NamedTuple):
    """The atom that stands for one tensor of the state before a step."""

    place: int


@dataclass(frozen=True)
class Step:
    """One step: its queries and the state after it, as combinations of `Slot`s and of its answers, of layer 0."""

    answers: tuple[Answer, ...]
    points: tuple[Combination, ...]
    after: tuple[Combination, ...]

    @cached_property
    def exact(self) -> bool:
        """Whether all coefficients of the step are exact, none of them rounded."""
        return all(c.exact for c in (*self.points, *self.after))

    @property
    def content(self) -> Hashable:
        """What the step is, equal for equal steps."""
        combinations = (*self.points, *self.after)
        terms = (((atom, frozenset(c.terms.items()), c.exact) for atom, c in x.terms.items()) for x in combinations)
        return self.answers, *map(frozenset, terms)

    @cached_property
    def floats(self) -> tuple[list[Terms], list[Terms]]:
        """The points, and the state after the step, as terms of (atom, factor) in floating point."""
        of_points, of_state = (
            [[(atom, float(c)) for atom, c in combination.terms.items()] for combination in combinations]
            for combinations in (self.points, self.after)
        )
        return of_points, of_state

    @cached_property
    def sizes(self) -> dict[Answer, Number]:
        """The largest coefficient of each answer in the state after the step."""
        sizes = dict.fromkeys(self.answers, Number.of(0))
        for combination in self.after:
            for atom, c in combination.terms.items():
                if isinstance(atom, Answer) and c.is_constant:
                    sizes[atom] = max(sizes[atom], abs(c))
        return sizes


class Steps:
    """The steps of an algorithm, each read when it is first needed.

    Attributes:
        algorithm: the algorithm, with exact coefficients.
        binding: how blocks become gradients; None for the answers of gradients.
        start: the first state, as combinations of the inputs.
        repeats: whether no step that was read used its number for more than its coefficients.
    """

    def __init__(self, algorithm: Algorithm, binding: Binding | None = None) -> None:
        self.algorithm = exactly(algorithm)
        self.binding: Binding | None = binding
        first = first_state(self.algorithm)
        self.start = tuple(leaves(first))
        self.repeats = True
        self._steps: list[Step] = []
        self._states: list[Any] = [rebuild(first, [None] * len(self.start))]
        self._read: dict[Hashable, tuple[Step, Any]] = {}
        self._distinct: dict[Hashable, Step] = {}
        self._state = list(self.start)
        self._points: list[list[Combination]] = []

    def __getitem__(self, k: int) -> Step:
        """Step k; the steps before it are read too."""
        while len(self._steps) <= k:
            self._append(self._repeated(len(self._steps)) or self._cut(len(self._steps)))
        return self._steps[k]

    @property
    def grows(self) -> bool:
        """Whether the first step changes the number of tensors that the state holds."""
        return len(self[0].after) != len(self.start)

    def alone(self, k: int) -> Step:
        """Step k of an algorithm whose state keeps its form, without the steps before it."""
        return self[k] if k < len(self._steps) else self._run(self.algorithm, k, self._states[0])[0]

    def goes_on(self, depth: int) -> bool:
        """Whether there are steps beyond the depth of a network that may be looked at."""
        return self.reach(depth, depth + 1) > depth

    def reach(self, depth: int, far: int) -> int:
        """The number of steps that there are to look at, at least `depth` and at most `far`.

        Those beyond a network's depth are looked at only where they exist: where steps are chosen by their
        coefficients alone, whose schedules can be extended, or where the algorithm says that it is `endless`.
        """
        _ = self[depth - 1]
        while len(self._steps) < far:
            k = len(self._steps)
            try:
                step = self._repeated(k) or (self._cut(k) if self.algorithm.endless else None)
            except (MinimandError, ArithmeticError):  # a schedule may have no more usable values
                step = None
            if step is None:
                return k
            self._append(step)
        return far

    def exact(self, depth: int) -> bool:
        """Whether all coefficients of the first steps, and of the output after them, are exact."""
        ends = (*self.start, self.read(depth))
        return all(c.exact for c in ends) and all(self[k].exact for k in range(depth))

    def read(self, depth: int) -> Combination:
        """The output after so many steps, as a combination of the state."""
        if depth:
            _ = self[depth - 1]
        output = guarded(self.algorithm, self.algorithm.read, _with_slots(self._states[depth]))
        if not isinstance(output, Combination):
            raise WrongTypeError(f"{type(self.algorithm).__name__}.read returned {output!r}; expected one tensor.")
        return output

    def point(self, k: int, call: int) -> Combination:
        """The point of a query of step k in terms of the inputs and of all answers before it."""
        if len(self._points) + _AHEAD < k:
            return self.traced(self[k].points[call], k)
        while len(self._points) <= k:
            layer, before = len(self._points), self._state
            self._points.append([_filled(point, before, layer) for point in self[layer].points])
            self._state = [_filled(leaf, before, layer) for leaf in self[layer].after]
        return self._points[k][call]

    def traced(self, combination: Combination, k: int) -> Combination:
        """A combination of the state before step k in terms of the inputs and of all answers before it.

        A coefficient that is not exact, and that cancels to 1e-9 of what it is computed from, is 0.
        """
        terms: dict[Hashable, Number] = {}
        of_state: dict[Any, Number] = {}
        for atom, c in combination.terms.items():
            if isinstance(atom, Answer):
                terms[atom._replace(layer=k)] = c
            elif isinstance(atom, Slot):
                of_state[atom] = c
        for layer in reversed(range(k)):
            step = self[layer]
            before: dict[Any, Number] = {}
            for slot, c in of_state.items():
                for atom, factor in step.after[slot.place].terms.items():
                    before[atom] = before[atom] + c * factor if atom in before else c * factor
            size = max((abs(c) for c in of_state.values() if c.is_constant), default=Number.of(0))
            for answer in step.answers:
                c = before.pop(answer, None)
                if c is not None and not _cancels(c, size, step.sizes[answer]):
                    terms[answer._replace(layer=layer)] = c
            of_state = {slot: _rounded(c) for slot, c in before.items()}
        inputs = _filled(Combination(of_state), self.start, 0)
        return Combination({**terms, **inputs.terms})

    def shares(self, atom: str, depth: int) -> list[Number]:
        """The coefficient of an input in every query of the first steps, and last in the output after them."""
        state = [leaf.coefficient(atom) for leaf in self.start]
        shares = []
        for k in range(depth):
            shares += [_share(point, state) for point in self[k].points]
            state = [_rounded(_share(leaf, state)) for leaf in self[k].after]
        return [*shares, _share(self.read(depth), state)]

    def _append(self, read: tuple[Step, Any]) -> None:
        step, after = read
        self._steps.append(step)
        self._states.append(after)

    def _repeated(self, k: int) -> tuple[Step, Any] | None:
        """Step k, where only its coefficients depend on its number; None where it uses the number itself."""
        if not self.repeats:
            return None
        try:
            values = {name: c(k) for name, c in self.algorithm.coefficients().items()}
        except MinimandError:  # a schedule may have no value for this layer, and the step not ask for it
            return None
        key = (str(self._states[k]), *values.values())  # a state may be a list, which has no hash
        if key not in self._read:
            chosen = self.algorithm.rebind(**{name: Read(lambda _, v=v: v) for name, v in values.items()})
            try:
                self._read[key] = self._run(chosen, _Unnamed(), self._states[k])
            except Exception:  # the user's own code, which may do anything with a number that is none
                self.repeats = False
                return None
        return self._read[key]

    def _cut(self, k: int) -> tuple[Step, Any]:
        step, after = self._run(self.algorithm, k, self._states[k])
        if len(step.after) != len(self.start):  # no two steps of a growing state are equal
            return step, after
        return self._distinct.setdefault(step.content, step), after

    def _run(self, algorithm: Algorithm, k: Any, state: Any) -> tuple[Step, Any]:
        calls: list[tuple[Answer, Combination]] = []
        oracles = symbolic_oracles(algorithm, 0, self.binding, lambda answer, point: calls.append((answer, point)))
        after = guarded(algorithm, algorithm.step, _with_slots(state), *oracles, k)
        step = Step(tuple(a for a, _ in calls), tuple(p for _, p in calls), tuple(leaves(after)))
        return step, rebuild(after, [None] * len(step.after))


class _Unnamed:
    """The number of a step that says nothing of itself: a step that asks uses more than its coefficients."""

    def _refuse(self, *arguments: Any) -> Any:
        raise WrongTypeError("the step uses its number.")

    __eq__ = __hash__ = __bool__ = __str__ = __repr__ = __format__ = _refuse


def _with_slots(state: Any) -> Any:
    return rebuild(state, [Combination.atom(Slot(i)) for i in range(len(leaves(state)))])


def _filled(combination: Combination, state: Any, layer: int) -> Combination:
    """A combination with the tensors of the state in place of its slots, and its answers as those of a layer."""
    terms: dict[Hashable, Number] = {}
    for atom, c in combination.terms.items():
        if isinstance(atom, Slot):
            # A shortcut: most of a growing state is only carried on.
            if len(combination.terms) == 1 and c.terms == _ONE:
                return state[atom.place]
            for inner, factor in state[atom.place].terms.items():
                terms[inner] = terms[inner] + c * factor if inner in terms else c * factor
        elif isinstance(atom, Answer):
            terms[atom._replace(layer=layer)] = c
    return Combination(terms)


def _share(combination: Combination, state: list[Number]) -> Number:
    total = Number.of(0)
    for atom, c in combination.terms.items():
        if isinstance(atom, Slot) and state[atom.place]:
            total = total + c * state[atom.place]
    return total


def _cancels(c: Number, size: Number, size_of_answer: Number) -> bool:
    if c.exact or not c.is_constant:
        return not c
    return abs(c.value) <= TOLERANCE * size.value * size_of_answer.value


def _rounded(c: Number) -> Number:
    """A number, of so many digits at most that sums over a thousand layers stay cheap."""
    long = c.is_constant and c.exact and c.value.denominator.bit_length() > _KEPT_BITS
    return Number(c.terms, exact=False) if long else c

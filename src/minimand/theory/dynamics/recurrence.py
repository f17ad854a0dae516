"""The recurrence of queries that runs backwards: each step is the last ones' combination plus what the blocks answer.

With q_t the query of call t and d_t = q_(t+1) - q_t, an algorithm whose inverse is a closed form obeys

    d_t = kappa_t q_t + mu_t1 d_(t-1) + ... + mu_tp d_(t-p) + sum of b_t T_t(q_t),

so q_t = q_(t+1) - d_t, and d_(t-p) follows from d_t after the blocks were asked at q_t. Heavy ball has p = 1 and
mu = momentum; two streams that are coupled in turns, and oracles that take turns, are of this form too.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..._support.errors import MinimandError
from ...algorithms import Algorithm, is_map, is_proximal, leaves, rebuild
from ..kernel import Binding, extended
from ..scalars import Number
from ..symbols import Combination

_LONGEST = 4
"""The largest p: states of more tensors than this are not worth running backwards."""


class NoRecurrenceError(MinimandError):
    """An algorithm whose queries obey no recurrence that runs backwards; the message says what is in the way."""


class Asked(NamedTuple):
    """One block that is asked: that of an oracle in a layer."""

    layer: int
    oracle: str


@dataclass
class Call:
    """The t-th point at which blocks are asked, and d_t."""

    blocks: list[Asked] = field(default_factory=list)
    gains: list[Number] = field(default_factory=list)
    """The factor b of each block's answer."""
    own: Number = field(default_factory=lambda: Number.of(0))
    """The factor kappa of the query itself."""
    lags: dict[int, Number] = field(default_factory=dict)
    """The factor mu of d_(t-j), by j."""


@dataclass(frozen=True)
class Recurrence:
    """The calls of a stage in their order, with how it begins and what it gives."""

    calls: tuple[Call, ...]
    first: dict[int, Number]
    """The first query as a combination of the inputs."""
    has_velocity: bool
    """Whether d_(-1) is the second input, not zero."""
    output: Number
    """The factor of q_T in the output, T the number of calls."""
    output_lags: dict[int, Number]
    """The factor of d_(T-j) in the output, by j."""

    @property
    def longest(self) -> int:
        """The largest p: a state is the query and p differences."""
        return max([1, *(j for call in self.calls for j in call.lags), *self.output_lags])

    @property
    def kept(self) -> frozenset[int]:
        """The calls t whose d_(t-p) does not follow from d_t, and has to be kept."""
        p, start = self.longest, -1 if self.has_velocity else 0
        return frozenset(t for t, call in enumerate(self.calls) if t - p >= start and not call.lags.get(p))


def recurrence(algorithm: Algorithm, depth: int, binding: Binding) -> Recurrence:
    """The recurrence of an algorithm, whose coefficients give numbers or unknowns, over `depth` layers.

    Raises:
        NoRecurrenceError: older answers are read again, or a state is normalized, or found by a prox.
    """
    beyond = [name for name in algorithm.oracles if is_map(name) or is_proximal(name)]
    if beyond:
        raise NoRecurrenceError(f"its step asks {beyond[0]}, which is no block")
    return _Reader(extended(algorithm, depth), depth, binding).read()


class _Stop(Exception):
    """The point of the first query after the last layer."""

    def __init__(self, point: Combination) -> None:
        super().__init__()
        self.point = point


class _Reader:
    """Runs an algorithm on atoms ("query", t), ("difference", t), ("answer", t, i) and ("input", i)."""

    def __init__(self, algorithm: Algorithm, depth: int, binding: Binding) -> None:
        self.algorithm, self.depth, self.binding = algorithm, depth, binding
        self.calls: list[Call] = []
        self.differences: dict[int, Combination] = {}
        self.inputs: Combination | None = None
        """x, as a combination of the first query and the velocity."""
        self.first: dict[int, Number] = {}

    def read(self) -> Recurrence:
        state = self.algorithm.start(*[Combination.atom(("input", i)) for i in range(len(self.algorithm.inputs))])
        for k in range(self.depth):
            state = self.algorithm.step(state, *[self._oracle(k, name) for name in self.algorithm.oracles], k)
            state = rebuild(state, [self._rewritten(leaf, len(self.calls) - 1) for leaf in leaves(state)])
        try:
            self.algorithm.step(state, *[self._stop] * len(self.algorithm.oracles), self.depth)
        except _Stop as stop:
            self._close(stop.point)
        end = len(self.calls)
        output = self._rewritten(self.algorithm.read(state), end)
        own, lags = self._terms(output, end)
        return Recurrence(tuple(self.calls), self.first, len(self.algorithm.inputs) > 1, own, lags)

    def _stop(self, point: Combination) -> Combination:
        raise _Stop(point)

    def _oracle(self, layer: int, name: str) -> Callable[[Combination], Combination]:
        def ask(point: Combination) -> Combination:
            if not self.calls:
                self._begin(point)
                self.calls.append(Call())
            elif not self._same_query(point):
                self._close(point)
                self.calls.append(Call())
            t, call = len(self.calls) - 1, self.calls[-1]
            if len(call.blocks) and call.blocks[-1] == Asked(layer, name):
                raise NoRecurrenceError(f"it asks {name} twice at one point")
            call.blocks.append(Asked(layer, name))
            answer = Combination.atom(("answer", t, len(call.blocks) - 1))
            return -answer if self.binding == "residual" else Combination.atom(("query", t)) - answer

        return ask

    def _same_query(self, point: Combination) -> bool:
        t = len(self.calls) - 1
        return self._rewritten(point, t).same(Combination.atom(("query", t)))

    def _begin(self, point: Combination) -> None:
        """q_0, and x as what it is made of."""
        self.first = {atom[1]: factor for atom, factor in point.terms.items()}  # pyright: ignore
        if not point.coefficient(("input", 0)).same(1):
            raise NoRecurrenceError("its first query is not x")
        velocity = Combination.atom(("difference", -1))
        self.inputs = Combination.atom(("query", 0)) - point.coefficient(("input", 1)) * velocity

    def _close(self, point: Combination) -> None:
        """Define d_t by the query that follows."""
        t = len(self.calls) - 1
        difference = self._rewritten(point, t) - Combination.atom(("query", t))
        call = self.calls[t]
        call.own, call.lags = self._terms(difference, t)
        call.gains = [difference.coefficient(("answer", t, i)) for i in range(len(call.blocks))]
        self.differences[t] = difference

    def _terms(self, combination: Combination, t: int) -> tuple[Number, dict[int, Number]]:
        """The factors of q_t and of d_(t-j); the answers at q_t left out."""
        own, lags = Number.of(0), {}
        for atom, factor in combination.terms.items():
            kind, index = atom[:2]  # pyright: ignore
            if kind == "query" and index == t:
                own = factor
            elif kind == "difference" and t - index <= _LONGEST:
                lags[t - index] = factor
            elif kind != "answer" or index != t:
                what = "answers of earlier blocks" if kind == "answer" else "states from long before"
                raise NoRecurrenceError(f"a query is made of {what}")
        return own, lags

    def _rewritten(self, combination: Combination, t: int) -> Combination:
        """The same by q_t and differences before t; answers before t, where differences account for them."""
        combination = combination.substitute(lambda atom: self._of_input(atom))
        combination = combination.substitute(lambda atom: self._by_query(atom, t))
        for s in range(t - 1, max(t - 1 - _LONGEST, -1), -1):
            factor = self._share(combination, s)
            if factor is not None:
                definition = self.differences[s].substitute(lambda atom: self._by_query(atom, t))
                combination = combination + factor * (Combination.atom(("difference", s)) - definition)
        return combination

    def _of_input(self, atom: Any) -> Combination | None:
        if atom[0] != "input" or self.inputs is None:
            return None
        return self.inputs if atom[1] == 0 else Combination.atom(("difference", -1))

    def _by_query(self, atom: Any, t: int) -> Combination | None:
        if atom[0] != "query" or atom[1] >= t:
            return None
        steps = [Combination.atom(("difference", s)) for s in range(atom[1], t)]
        return Combination.atom(("query", t)) - sum(steps[1:], start=steps[0])

    def _share(self, combination: Combination, s: int) -> Number | None:
        """The factor of d_s that accounts for all that a combination has of the answers at q_s."""
        share: Number | None = None
        for i, gain in enumerate(self.calls[s].gains):
            factor = combination.coefficient(("answer", s, i))
            if not factor and not gain:
                continue
            part = quotient(factor, gain)
            if part is None or (share is not None and not part.same(share)):
                return None
            share = part
        return share if share else None


def quotient(a: Number, b: Number) -> Number | None:
    """The number q with a = q b; None where no polynomial is."""
    if not b:
        return None
    if b.is_constant:
        return a / b
    leading, factor = max(b.terms.items(), key=lambda term: _rank(term[0]))
    result = Number.of(0)
    while a:
        monomial, c = max(a.terms.items(), key=lambda term: _rank(term[0]))
        powers = dict(monomial)
        for name, power in leading:
            powers[name] = powers.get(name, 0) - power
        if any(power < 0 for power in powers.values()):
            return None
        term = Number({tuple(sorted(((n, p) for n, p in powers.items() if p), key=repr)): c / factor}, a.exact)
        result, a = result + term, a - term * b
    return result


def _rank(monomial: tuple[tuple[Hashable, int], ...]) -> tuple[int, str]:
    return sum(power for _, power in monomial), repr(monomial)

"""The kernel of an algorithm: every query, and the output, as a combination of the input and the answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from .._support.errors import MinimandError, WrongTypeError, unknown_name
from ..algorithms import Algorithm, Read, Schedule, each_entry, is_map, is_proximal, leaves
from .scalars import Number
from .symbols import Combination, NonlinearStepError

AlgorithmLike = Algorithm | type[Algorithm] | str
"""An algorithm, its class, or its name, `"heavy_ball(momentum=0.9)"`; learnable coefficients count as they are now."""

Binding = Literal["residual", "operator"]
"""How a block T becomes a gradient: gradient(x) = -T(x), or gradient(x) = x - T(x)."""

BINDINGS: tuple[Binding, ...] = ("residual", "operator")


class Answer(NamedTuple):
    """The atom that stands for one answer of one oracle."""

    layer: int
    oracle: str
    call: int

    def __str__(self) -> str:
        return f"{self.oracle}[{self.layer}]" + "'" * self.call


INPUT = "x"
"""The atom that stands for the input; a second one has the atom of its name."""


@dataclass(frozen=True)
class Query:
    """One call of an oracle: the point of the query, and the atom of its answer."""

    answer: Answer
    point: Combination


@dataclass(frozen=True)
class Kernel:
    """An algorithm run on symbols; its answers are those of the gradients or, under a binding, of the blocks T."""

    depth: int
    queries: tuple[Query, ...]
    output: Combination
    rests: bool
    """Whether no step moves the state when every answer is zero."""
    memory: tuple[int, ...]
    """The number of tensors that the state holds before each step and at the end."""

    @property
    def exact(self) -> bool:
        """Whether every coefficient is known exactly."""
        return self.output.exact and all(query.point.exact for query in self.queries)

    @property
    def maps(self) -> tuple[Query, ...]:
        """The queries of map oracles, whose answers are known functions of them."""
        return tuple(query for query in self.queries if is_map(query.answer.oracle))

    @property
    def gains(self) -> dict[Answer, float]:
        """How strongly each answer reaches the output: the impulse response."""
        return {q.answer: float(self.output.coefficient(q.answer)) for q in self.queries}

    @property
    def single(self) -> bool:
        """Whether each step asks one oracle once."""
        return [q.answer.layer for q in self.queries] == list(range(self.depth))


def kernel(algorithm: Algorithm, depth: int, binding: Binding | None = None) -> Kernel:
    """Run any algorithm on symbols for `depth` steps, growing history and several oracles included.

    Without a binding the answers are gradients (proximal ones subgradients at the new point); with one they are those
    of the blocks. Raises NonlinearStepError where `start`, `step` or `read` is not linear in states and answers.
    """
    if depth < 1:
        raise MinimandError(f"depth is {depth}; expected at least 1.")
    check_binding(binding)
    algorithm = exactly(algorithm)
    queries: list[Query] = []
    first = state = first_state(algorithm)
    memory = [len(leaves(state))]
    rests = True
    for k in range(depth):
        oracles = symbolic_oracles(algorithm, k, binding, queries.append)
        state = guarded(algorithm, algorithm.step, state, *oracles, k)
        rests = rests and _rested(first, state)
        memory.append(len(leaves(state)))
    output = guarded(algorithm, algorithm.read, state)
    if not isinstance(output, Combination):
        raise WrongTypeError(f"{type(algorithm).__name__}.read returned {output!r}; expected one tensor.")
    if not queries:
        raise MinimandError(f"{type(algorithm).__name__}.step asks no oracle: there is nothing for a block to answer.")
    return Kernel(depth, tuple(queries), output, rests, tuple(memory))


def consistency(gradients: Kernel) -> tuple[bool, str]:
    """Whether, with zero answers, the state rests and every query and the output equal x; and why.

    A map of zero is zero, and a second input counts as zero.
    """
    for query in gradients.queries:
        where = f"layer {query.answer.layer}"
        share = query.point.coefficient(INPUT)
        if is_map(query.answer.oracle):
            if not share.same(0):
                return False, f"with zero answers {query.answer.oracle} of {where} is asked at {share} x, not at 0"
            continue
        if not share.same(1):
            return False, f"with zero answers the query of {where} is {share} x, not x"
    share = gradients.output.coefficient(INPUT)
    if not share.same(1):
        return False, f"with zero answers the output is {share} x, not x"
    if not gradients.rests:
        return False, "with zero answers the state does not rest"
    of_maps = "; the normalization of 0 is 0, as it has no bias" if gradients.maps else ""
    return True, f"with zero answers the state rests; every query and the output equal x{of_maps}"


def first_state(algorithm: Algorithm) -> Any:
    """The state that an algorithm starts with, from an atom for each of its inputs."""
    return guarded(algorithm, algorithm.start, *map(Combination.atom, input_atoms(algorithm)))


def input_atoms(algorithm: Algorithm) -> list[str]:
    """The atoms of an algorithm's inputs: `INPUT`, and of the others their names."""
    return [INPUT, *(name if name != INPUT else f"{INPUT}'" for name in algorithm.inputs[1:])]


def exactly(algorithm: Algorithm) -> Algorithm:
    """The algorithm with coefficients that give exact numbers; learnable ones have their initial value."""

    def exact(coefficient: Callable[[int], Any]) -> Read:
        return Read(lambda k: each_entry(Number.of, coefficient(k)))

    return algorithm.rebind(**{name: exact(c) for name, c in algorithm.coefficients().items()})


def symbolic_oracles(
    algorithm: Algorithm, k: int, binding: Binding | None, record: Callable[[Query], None]
) -> list[Callable[..., Combination]]:
    """The oracles of step k on symbols; `record` is called with every query."""

    def oracle(name: str) -> Callable[..., Combination]:
        calls = 0

        def ask(point: Any, step_size: Any = None) -> Combination:
            nonlocal calls
            if not isinstance(point, Combination):
                raise WrongTypeError(f"{type(algorithm).__name__}.step asks {name} at a {type(point).__name__}")
            answer = Answer(k, name, calls)
            calls += 1
            atom = Combination.atom(answer)
            if is_proximal(name):
                if step_size is None:
                    raise WrongTypeError(f"{type(algorithm).__name__}.step asks {name} without a step size.")
                # p = point - s a, where a is the answer at p itself.
                s = Number.of(step_size)
                p = point - s * atom if binding is None else point + s * atom
                if binding == "operator":
                    p = p / (1 + s)
                record(Query(answer, p))
                return p
            record(Query(answer, point))
            if is_map(name):
                return atom
            return {None: atom, "residual": -atom, "operator": point - atom}[binding]

        return ask

    return [oracle(name) for name in algorithm.oracles]


def guarded(algorithm: Algorithm, part: Callable[..., Any], *arguments: Any) -> Any:
    """Call a part of the algorithm on symbols; an error says whose part it is."""
    name = getattr(part, "__name__", "step")
    try:
        value = part(*arguments)
    except NonlinearStepError as error:
        raise NonlinearStepError(f"{type(algorithm).__name__}: the {name} is {error}") from None
    if not leaves(value) or not all(isinstance(leaf, Combination) for leaf in leaves(value)):
        raise WrongTypeError(
            f"{type(algorithm).__name__}.{name} returned {value!r}; expected a tensor made from the state, or a tuple "
            "of such (0 * x is a tensor of zeros)."
        )
    return value


def extended(algorithm: Algorithm, depth: int) -> Algorithm:
    """The algorithm with schedules that go on with their last value where they end with a network of this depth."""

    def extend(schedule: Schedule) -> Read:
        def value(k: int) -> Any:
            for i in range(k, depth - 1, -1):
                try:
                    return schedule(i)
                except (TypeError, ValueError):
                    continue
            return schedule(min(k, depth - 1))

        return Read(value)

    schedules = {name: c for name, c in algorithm.coefficients().items() if isinstance(c, Schedule)}
    return algorithm.rebind(**{name: extend(c) for name, c in schedules.items()})


def check_binding(binding: Any) -> None:
    """Raise ValueError unless the binding is one."""
    if binding is not None and binding not in BINDINGS:
        raise unknown_name("binding", str(binding), BINDINGS)


def _rested(first: Any, state: Any) -> bool:
    before, after = leaves(first), leaves(state)
    # A growing state stores more; that the queries stay at x says all there is to say of it.
    return len(before) != len(after) or all(
        a.coefficient(INPUT).same(b.coefficient(INPUT)) for a, b in zip(before, after, strict=True)
    )

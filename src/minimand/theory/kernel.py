"""The kernel of an algorithm: every query, and the output, as a combination of the input and the answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from .._support.errors import MinimandError
from ..algorithms import as_algorithm, is_map
from .oracles import (
    BINDINGS as BINDINGS,
    INPUT as INPUT,
    AlgorithmLike as AlgorithmLike,
    Answer as Answer,
    Binding as Binding,
    check_binding as check_binding,
    check_depth,
    exactly as exactly,
    extended as extended,
    input_atoms as input_atoms,
)
from .scalars import Number
from .steps import Steps
from .symbols import Combination


@dataclass(frozen=True)
class Query:
    """One call of an oracle: the atom of its answer, and the point of the query, which is computed when looked at."""

    answer: Answer
    compute: Callable[[], Combination] = field(repr=False)

    @cached_property
    def point(self) -> Combination:
        """The point of the query as a combination of the inputs and of earlier answers."""
        return self.compute()


@dataclass(frozen=True)
class Kernel:
    """An algorithm run on symbols; its answers are those of the gradients or, under a binding, of the blocks T."""

    depth: int
    queries: tuple[Query, ...]
    output: Combination
    memory: tuple[int, ...]
    """The number of tensors that the state holds before each step and at the end."""
    steps: Steps = field(repr=False, compare=False)
    """The steps that the kernel was read from."""

    @property
    def exact(self) -> bool:
        """Whether every coefficient is known exactly."""
        return self.steps.exact(self.depth)

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

    def shares(self, atom: str) -> list[Number]:
        """The coefficient of an input in every query, and last in the output: what they are where no oracle answers."""
        return self.steps.shares(atom, self.depth)


def kernel(algorithm: AlgorithmLike, depth: int, binding: Binding | None = None) -> Kernel:
    """Run any algorithm on symbols for `depth` steps, growing history and several oracles included.

    Without a binding the answers are gradients (proximal ones subgradients at the new point); with one they are those
    of the blocks. The points of the queries are computed when they are looked at, so that a deep kernel costs what is
    read of it. Raises NonlinearStepError where `start`, `step` or `read` is not linear in states and answers.
    """
    check_binding(binding)
    return kernel_of(Steps(as_algorithm(algorithm), binding), depth)


def kernel_of(steps: Steps, depth: int) -> Kernel:
    """The kernel of the first steps of an algorithm that is cut into them."""
    check_asks(steps, depth)
    queries = tuple(
        Query(answer._replace(layer=k), lambda k=k, call=call: steps.point(k, call))
        for k in range(depth)
        for call, answer in enumerate(steps[k].answers)
    )
    memory = (len(steps.start), *(len(steps[k].after) for k in range(depth)))
    return Kernel(depth, queries, steps.traced(steps.read(depth), depth), memory, steps)


def check_asks(steps: Steps, depth: int) -> None:
    """Raise MinimandError for a depth below 1, and where none of so many steps asks an oracle."""
    check_depth(depth)
    if not any(steps[k].answers for k in range(depth)):
        name = type(steps.algorithm).__name__
        raise MinimandError(f"{name}.step asks no oracle: there is nothing for a block to answer.")


def consistency(gradients: Kernel) -> tuple[bool, str]:
    """Whether, with zero answers, every query and the output equal x; and why.

    A map of zero is zero, and a second input counts as zero. What the state holds beside counts as far as it is read.
    """
    *shares, share_of_output = gradients.shares(INPUT)
    for query, share in zip(gradients.queries, shares, strict=True):
        where = f"layer {query.answer.layer}"
        if is_map(query.answer.oracle):
            if not share.same(0):
                return False, f"with zero answers {query.answer.oracle} of {where} is asked at {share} x, not at 0"
            continue
        if not share.same(1):
            return False, f"with zero answers the query of {where} is {share} x, not x"
    if not share_of_output.same(1):
        return False, f"with zero answers the output is {share_of_output} x, not x"
    of_maps = "; the normalization of 0 is 0, as it has no bias" if gradients.maps else ""
    return True, f"with zero answers every query and the output equal x{of_maps}"

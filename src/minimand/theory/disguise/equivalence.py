"""Which algorithms are the same network in disguise."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Literal

from ...algorithms import Algorithm, as_algorithm
from ..kernel import check_asks
from ..oracles import AlgorithmLike, Answer
from ..scalars import Number
from ..steps import Steps
from ..symbols import Combination
from .alignment import Alignment, first_difference

Relation = Literal["identical", "up to read-out", "rescaled", "different"]


@dataclass(frozen=True)
class Equivalence:
    """How two algorithms compare as networks; true if they are the same one, read-out aside.

    identical: equal queries and output for all blocks. up to read-out: equal queries. rescaled: equal once the
    blocks of `second` are multiplied by `scale`; that is a different network. different: none of these.
    """

    first: str
    second: str
    relation: Relation
    depth: int
    exact: bool
    """False where the comparison was made to 1e-9, because a coefficient is irrational."""
    scale: float | None = None
    difference: str = ""

    def __bool__(self) -> bool:
        return self.relation in ("identical", "up to read-out")

    def __str__(self) -> str:
        how = {
            "identical": f"is the same network as {self.second}",
            "up to read-out": f"is, up to what is read out, the same network as {self.second}",
            "rescaled": f"is {self.second} with every block multiplied by {self.scale}, which is another network",
            "different": f"is not the same network as {self.second}",
        }[self.relation]
        checked = f"{self.depth} layers, {'exactly' if self.exact else 'to 1e-9'}"
        return f"{self.first} {how} ({checked}{'; ' if self.difference else ''}{self.difference})"


def equivalent(first: AlgorithmLike, second: AlgorithmLike, depth: int = 32) -> Equivalence:
    """Compare two algorithms as networks of `depth` layers, for all blocks and under either binding.

    Numbers that are not exact are compared to 1e-9 of the largest coefficient that the same answer has anywhere.

    Example: `mm.equivalent("heavy_ball(step_size=0.1, momentum=0.9)", "momentum_residual(momentum=0.9)")`.
    """
    a, b = as_algorithm(first), as_algorithm(second)
    return compare(a, b, Steps(a), Steps(b), depth)


def compare(first: Algorithm, second: Algorithm, a: Steps, b: Steps, depth: int) -> Equivalence:
    """Compare two algorithms that are cut into steps, as `equivalent`."""
    for steps in (a, b):
        check_asks(steps, depth)
    exact = a.exact(depth) and b.exact(depth)

    def as_networks(relation: Relation, scale: float | None = None, difference: str = "") -> Equivalence:
        return Equivalence(str(first), str(second), relation, depth, exact, scale, difference)

    alignment = Alignment.of(first, second, a, b, depth)
    if alignment is None:
        return as_networks("different", difference="their steps ask other oracles")
    index = first_difference(alignment, exact)
    if index is None:
        return as_networks("identical")
    if index == len(alignment.pairs):
        return as_networks("up to read-out")
    (k, call), other = alignment.pairs[index]
    p, q = a.point(k, call), _renamed(b.point(k, other), alignment.atoms(k + 1))
    scale = _scale(p, q)
    if scale is not None and first_difference(alignment, exact, scale) is not None:
        scale = None
    relation: Relation = "different" if scale is None else "rescaled"
    return as_networks(relation, None if scale is None else float(scale), f"query {index} is {p} against {q}")


def _scale(p: Combination, q: Combination) -> Number | None:
    """The factor by which the coefficient of an answer in the first exceeds that in the second; None if one is 0."""
    answers = [atom for atom in p.terms if isinstance(atom, Answer) and p.terms[atom].is_constant]
    largest = max(answers, key=lambda atom: abs(p.terms[atom].value), default=None)
    if largest is None or not q.coefficient(largest):
        return None
    return p.coefficient(largest) / q.coefficient(largest)


def _renamed(combination: Combination, atoms: Mapping[Hashable, Hashable]) -> Combination:
    return Combination({atoms.get(atom, atom): c for atom, c in combination.terms.items()})

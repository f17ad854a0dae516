"""How far two algorithms are from being the same network."""

from fractions import Fraction

from ..algorithms import Algorithm, as_algorithm
from .equivalence import aligned
from .kernel import Binding, kernel
from .symbols import Combination


def distance(
    first: Algorithm | type[Algorithm] | str,
    second: Algorithm | type[Algorithm] | str,
    depth: int = 32,
    binding: Binding = "residual",
) -> float:
    """The L1 distance of the kernels of two algorithms over `depth` layers.

    Every query, and the output, is a combination of the input and of the blocks' earlier answers. The distance is
    the sum of the absolute differences of all these coefficients. It is symmetric, meets the triangle inequality, and
    is 0 where `equivalent` finds the two identical and nowhere else. Oracles correspond by their place in the
    signature of `step`; it is infinite where the steps ask other oracles, or one of them more often, for then no
    coefficients correspond. Learnable coefficients count with their current values.

    Example: `mm.theory.distance("heavy_ball", "nesterov_y", depth=8)`.
    """
    a, b = as_algorithm(first), as_algorithm(second)
    pairs = aligned(a, b, kernel(a, depth, binding), kernel(b, depth, binding))
    return float("inf") if pairs is None else float(sum(_apart(p, q) for p, q in pairs))


def _apart(p: Combination, q: Combination) -> Fraction:
    pairs = [(p.coefficient(atom), q.coefficient(atom)) for atom in p.terms.keys() | q.terms.keys()]
    return sum((abs((a - b).value) for a, b in pairs if not a.same(b)), Fraction(0))

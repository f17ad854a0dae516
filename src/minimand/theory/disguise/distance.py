"""How far apart the networks of two algorithms are."""

import math

import numpy as np

from ...algorithms import as_algorithm
from ..oracles import AlgorithmLike, Binding, check_binding, check_depth
from ..steps import Steps
from .alignment import Alignment, first_difference


def distance(first: AlgorithmLike, second: AlgorithmLike, depth: int = 32, binding: Binding = "residual") -> float:
    """The L1 distance of the kernels of two algorithms over `depth` layers.

    It sums the absolute differences of all coefficients of the queries and of the output: symmetric, within the
    triangle inequality, and 0 exactly where algorithms of exact coefficients are identical; where coefficients are
    irrational, the rounding of floats is left. It is infinite where the steps ask other oracles, or one of them more
    often, for then no coefficients correspond.
    """
    check_binding(binding)
    check_depth(depth)
    a, b = as_algorithm(first), as_algorithm(second)
    alignment = Alignment.of(a, b, Steps(a, binding), Steps(b, binding), depth)
    if alignment is None:
        return math.inf
    is_exact = alignment.first.exact(depth) and alignment.second.exact(depth)
    if is_exact and first_difference(alignment, exact=True) is None:
        return 0.0
    left, right = alignment.matrices
    return math.fsum(np.abs(left - right).ravel().tolist())

"""What a certificate says of networks beyond linear theory: normalized states, second inputs, drawn coefficients."""

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import cast

from ..algorithms import Algorithm, Drawn, Learned, Read, Table, as_algorithm, filled, is_map
from .dynamics.recurrence import NoRecurrenceError, recurrence
from .dynamics.response import gains as gains_of
from .kernel import Answer, Kernel, consistency, exactly, input_atoms, kernel
from .scalars import Number, short_text
from .symbols import Combination

NORMALIZED = "no promise: a part of the state is normalized, which is not linear"
"""The reason where linear theory ends."""

_SYMBOLIC_LAYERS = 3  # beyond these the products of unknown entries are too many, and tell nothing new
_DRAWN_LAYERS = 10  # the most layers whose gains are taken over all draws


def boundedness(gradients: Kernel) -> str:
    """A bound on how far the output is from x where every answer passes a map; empty without maps."""
    if not gradients.maps:
        return ""
    moved = {atom: c for atom, c in gradients.output.terms.items() if isinstance(atom, Answer)}
    direct = [atom for atom in moved if not is_map(atom.oracle)]
    if direct:
        return f"no: {direct[0]} reaches the output beside the normalization, and is as large as the block makes it"
    reach = sum((abs(c.value) for c in moved.values()), Fraction(0))
    return (
        f"|output - x| <= {short_text(reach)} max|w| sqrt(d), w the normalization's weight, d its size, whatever the "
        f"blocks answer: at most linear in depth"
    )


def second_input(algorithm: Algorithm, gradients: Kernel) -> str:
    """How much of each further input the queries and the output hold; empty without one."""
    parts = []
    for atom in input_atoms(algorithm)[1:]:
        first, last = (gradients.queries[i].point.coefficient(atom) for i in (0, -1))
        output = gradients.output.coefficient(atom)
        shares = ", ".join(short_text(share.value) for share in (first, last, output))
        parts.append(f"{atom}: its share of the first query, the last query and the output is {shares}")
    return "; ".join(parts) + ("; all else here is said of 0 in its place" if parts else "")


def tables(algorithm: Algorithm, depth: int) -> str:
    """Whether consistency holds whatever values the learnable tables take; empty without such tables."""
    names = [name for name in algorithm.learnable() if algorithm.shape(name, 0)]
    if not names:
        return ""
    depth = min(depth, _SYMBOLIC_LAYERS)
    symbols = {name: Read(lambda k, name=name: _unknown_table(algorithm, name, k)) for name in names}
    if consistency(kernel(algorithm.rebind(**symbols), depth))[0]:
        return f"consistent whatever values {', '.join(names)} take ({depth} layers)"
    return f"consistent at the present values of {', '.join(names)}, not at all values that training may reach"


def of_channels(algorithm: Algorithm) -> str:
    """What is read of coefficients that are trained with a value for each channel; empty without such."""
    names = [name for name, c in algorithm.learnable().items() if isinstance(c, Learned) and c.channels]
    return f"of {', '.join(names)} the mean is read; each channel runs with a value of its own" if names else ""


def what_is_drawn(algorithm: Algorithm, depth: int) -> str:
    """What holds for every draw, and what the mean over draws of the kernels is; empty where nothing is drawn."""
    drawn = algorithm.drawn()
    if not drawn:
        return ""
    depth = min(depth, 16)  # the kernel has a term for each set of draws
    symbols = {name: _unknown(name) for name in drawn}
    generic = kernel(algorithm.rebind(**symbols), depth)
    always = "consistent for every draw" if consistency(generic)[0] else "not consistent for every draw"
    mean = _mean(generic, drawn)
    is_mean = (
        "gradient descent's"
        if _same(mean, kernel(as_algorithm("gradient_descent"), depth))
        else "not gradient descent's"
    )
    layers = min(depth, _DRAWN_LAYERS // len(drawn))
    lowest, highest = _range_of_gains(algorithm, drawn, layers)
    return (
        f"{always}; gains between {lowest:.3g} and {highest:.3g} over all draws of {layers} layers; the mean of "
        f"the kernels over the draws is {is_mean} (not the mean of the outputs){_backwards(algorithm, drawn, depth)}"
    )


def _backwards(algorithm: Algorithm, drawn: Mapping[str, Drawn], depth: int) -> str:
    """Whether the steps run backwards whatever is drawn, as the end of a sentence; empty where they do not."""
    for values in product(*((c.low, c.high) for c in drawn.values())):
        try:
            run = recurrence(exactly(replace(algorithm, **dict(zip(drawn, values, strict=True)))), depth, "residual")
        except NoRecurrenceError:
            return ""
        if run.kept:
            return ""
    return "; in training every draw is reversible in closed form (memory='reversible')"


def _unknown(name: str) -> Read:
    return Read(lambda k: Number.unknown((name, k)))


def _unknown_table(algorithm: Algorithm, name: str, k: int) -> Table:
    return filled(algorithm.shape(name, k), lambda index: Number.unknown((name, k, *index)))


def _mean(generic: Kernel, drawn: Mapping[str, Drawn]) -> list[Combination]:
    """The queries and the output, each coefficient averaged over independent draws."""
    points = [*(query.point for query in generic.queries), generic.output]
    return [Combination({atom: _averaged(c, drawn) for atom, c in point.terms.items()}) for point in points]


def _averaged(number: Number, drawn: Mapping[str, Drawn]) -> Number:
    total = Number.of(0)
    for monomial, factor in number.terms.items():
        term = Number.of(factor)
        for unknown, power in monomial:
            c = drawn[cast(tuple[str, int], unknown)[0]]
            term = term * (Number.of(c.low) ** power + Number.of(c.high) ** power) / 2
        total = total + term
    return total


def _same(points: list[Combination], other: Kernel) -> bool:
    others = [*(query.point for query in other.queries), other.output]
    return len(points) == len(others) and all(p.same(q) for p, q in zip(points, others, strict=True))


def _range_of_gains(algorithm: Algorithm, drawn: Mapping[str, Drawn], layers: int) -> tuple[float, float]:
    """The least and the largest gain over all draws of a few layers."""
    lowest, highest = math.inf, 0.0
    names = list(drawn)
    for ends in product((False, True), repeat=layers * len(names)):
        values = {
            name: [drawn[name].high if e else drawn[name].low for e in ends[i * layers : (i + 1) * layers]]
            for i, name in enumerate(names)
        }
        chosen = {name: Read(lambda k, v=v: v[min(k, len(v) - 1)]) for name, v in values.items()}
        size = gains_of(algorithm.rebind(**chosen), layers)
        lowest, highest = min(lowest, float(size.min())), max(highest, float(size.max()))
    return lowest, highest

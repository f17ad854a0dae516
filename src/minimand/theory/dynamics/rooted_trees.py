"""The order of a Runge-Kutta method, by the order conditions of its rooted trees."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from math import prod

Tree = tuple["Tree", ...]
"""A rooted tree: the subtrees at its root."""


def runge_kutta_order(
    a: Sequence[Sequence[Fraction]], b: Sequence[Fraction], is_zero: Callable[[Fraction], bool]
) -> int:
    """The largest p for which every tree t of at most p vertices has b . weights(t) = 1 / density(t).

    Args:
        a: (stages, stages), how each query reads the answers of its step.
        b: (stages,), how the new state does; they sum to 1.
        is_zero: whether a difference counts as none.
    (Hairer, Norsett & Wanner, II.2)
    """
    order = 0
    # No explicit method of s stages exceeds order s, and an implicit one never 2 s.
    while order < 2 * len(b):
        for tree in _trees(order + 1):
            weights = _weights(tree, a)
            if not is_zero(sum((c * w for c, w in zip(b, weights, strict=True)), Fraction(0)) - 1 / _density(tree)):
                return order
        order += 1
    return order


def _weights(tree: Tree, a: Sequence[Sequence[Fraction]]) -> list[Fraction]:
    """The elementary weight of a tree at each stage."""
    below = [_weights(subtree, a) for subtree in tree]
    return [
        prod(
            (sum((c * w for c, w in zip(row, weights, strict=True)), Fraction(0)) for weights in below),
            start=Fraction(1),
        )
        for row in a
    ]


def _size(tree: Tree) -> int:
    return 1 + sum(map(_size, tree))


def _density(tree: Tree) -> Fraction:
    return Fraction(_size(tree)) * prod(map(_density, tree), start=Fraction(1))


@cache
def _trees(vertices: int) -> tuple[Tree, ...]:
    """Every rooted tree with so many vertices, once."""
    return tuple(_forests(vertices - 1, vertices - 1))


def _forests(vertices: int, largest: int) -> Iterator[Tree]:
    """Every multiset of trees with so many vertices in all, none above `largest`."""
    if vertices == 0:
        yield ()
    for size in range(min(largest, vertices), 0, -1):
        for i, tree in enumerate(_trees(size)):
            for smaller in _forests(vertices - size, size):
                # Of equal size in the order of the list, so that none comes twice.
                if not smaller or _size(smaller[0]) < size or _trees(size).index(smaller[0]) >= i:
                    yield (tree, *smaller)

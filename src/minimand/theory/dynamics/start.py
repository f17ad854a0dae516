"""The order of a network with its start: what a method's first steps leave of its order."""

import math
from collections.abc import Hashable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from ..oracles import INPUT
from ..steps import Slot, Steps
from .linear_system import is_root_bounded
from .stability import Order, Tail, Tree, density, order, trees

_STEPS = (64, 128)  # between which the growth of an error is measured
_ROUNDING = 1e-12
_HIGHEST = 5


def order_of_network(steps: Steps, constant: Tail | None) -> Order:
    """The order of the method that an algorithm ends in; where none is read off it, that of the network, measured.

    That is so of steps with memory that ask one oracle for several answers.
    """
    method = order(constant)
    if constant is None or method.order is not None or method.speed is None or len(set(constant.oracles)) > 1:
        return method
    if not is_root_bounded(constant.system.poles):
        return method
    p = order_with_start(steps, constant, _HIGHEST, method.speed)
    if p < 1:
        return method
    measured = "numerically, of the network with its start" + (", or more" if p == _HIGHEST else "")
    return replace(method, order=p, reason=f"{measured}: {method.reason}")


def with_start(steps: Steps, constant: Tail | None, accuracy: Order) -> str:
    """Words for the order of the network where its start lowers that of the method; empty elsewhere."""
    if constant is None or accuracy.order is None or accuracy.order < 2 or accuracy.speed is None:
        return ""
    order = order_with_start(steps, constant, accuracy.order, accuracy.speed)
    if order >= min(accuracy.order, _HIGHEST):
        return ""
    note = f"the method's; with its start the network is of order {order}"
    return f"; {note}" if accuracy.reason else note


def order_with_start(steps: Steps, constant: Tail, order: int, speed: Fraction) -> int:
    """The order of the network for x' = -gradient(x), at most that of the method, of 1 oracle and at most 5.

    The output is expanded in rooted trees: after N steps of the algorithm, with its own start, the coefficient of a
    tree of q vertices is N^q / density, up to an error of N^(q - p). (Hairer, Norsett & Wanner, II.2, II.12, III.4)
    """
    highest = min(order, _HIGHEST)
    forest = [tree for vertices in range(1, highest + 1) for tree in trees(vertices)]
    errors = [_errors(steps, constant, forest, n, float(speed) / constant.period) for n in _STEPS]
    p = highest
    for tree, near, far in zip(forest, *errors, strict=True):
        vertices = _vertices(tree)
        if far > _ROUNDING * _STEPS[-1] ** vertices:
            grows = max(round(math.log2(far / near)), 0) if near > 0 else vertices
            p = min(p, vertices - grows)
    return p


def _errors(steps: Steps, constant: Tail, forest: list[Tree], n: int, speed: float) -> list[float]:
    """The error of each tree after about n steps, the largest of a few, as parasitic poles make it swing."""
    place = {tree: i + 1 for i, tree in enumerate(forest)}
    state = [np.eye(1, len(forest) + 1)[0] * float(leaf.coefficient(INPUT)) for leaf in steps.start]
    read = [(atom, float(c)) for atom, c in steps.read(0).terms.items()]
    largest = np.zeros(len(forest))
    looked_at = {n + i * constant.period for i in range(4)}
    for k in range(max(looked_at)):
        step = steps[k if k < constant.begins else constant.begins + (k - constant.begins) % constant.period]
        of_points, of_state = step.floats
        answers: dict[Hashable, np.ndarray] = {answer: np.zeros(len(forest) + 1) for answer in step.answers}
        for answer, terms in zip(step.answers, of_points, strict=True):
            point = _sum(terms, state, answers)
            own = dict(terms).get(answer, 0.0)  # a prox answers at its own result, so its answer stands in its point
            for tree in forest:
                value = -math.prod(float(point[place[subtree]]) for subtree in tree)
                answers[answer][place[tree]] = value
                point[place[tree]] += own * value
        state = [_sum(terms, state, answers) for terms in of_state]
        if (k + 1 - constant.begins) % constant.period == 0 or constant.period == 1:
            time = speed * (k + 1)
            if any(abs(k + 1 - m) < constant.period for m in looked_at):
                output = _sum(read, state, {})
                exact = [time ** _vertices(tree) / float(density(tree)) for tree in forest]
                largest = np.maximum(largest, np.abs(output[1:] - exact))
    return largest.tolist()


def _sum(
    terms: list[tuple[Hashable, float]], state: list[np.ndarray], answers: dict[Hashable, np.ndarray]
) -> np.ndarray:
    total = np.zeros_like(state[0])
    for atom, c in terms:
        total += c * (state[atom.place] if isinstance(atom, Slot) else answers[atom])
    return total


def _vertices(tree: Tree) -> int:
    return 1 + sum(map(_vertices, tree))

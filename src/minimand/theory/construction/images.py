"""U6 of docs/understand/universality.md as code: convolutional blocks that compute a shallow network on images.

A block is a convolution with taps -1, 0 and 1, an activation and a convolution of one tap. The first channels hold the
input and the last ones the output; between them is what is being computed.
"""

from itertools import product

import torch
from torch import nn

from ..._support.errors import MinimandError
from ...algorithms import Algorithm
from ..block.activations import read_shape
from ..kernel import Binding
from .convolutions import Bounded, Program, Taps, closed_path, place
from .coupling import Block, coupled
from .shallow_convolution import ShallowConvolution as ShallowConvolution, Shift


def image_parts(
    shallow: ShallowConvolution, algorithm: Algorithm, binding: Binding, gather: bool
) -> tuple[nn.Module, list[Block], nn.Module]:
    """The stem, the blocks and the head of the deep network of a shallow one on images."""
    activation = read_shape(shallow.activation)
    if activation.odd is None:
        raise MinimandError(
            f"activation is {shallow.activation}, of which act(t) - act(-t) is not linear; expected ReLU, LeakyReLU, "
            "GELU, SiLU or Softplus. With others the networks are dense, not equal."
        )
    if shallow.padding == "zeros" and not activation.rectifies:
        raise MinimandError(f"activation is {shallow.activation}; zero padding is exact with ReLU, dense with others.")
    write = _gathered if gather else _carried if shallow.padding == "circular" else _by_position
    with torch.no_grad():
        program = write(shallow, activation.odd)
        blocks = coupled(algorithm, binding, program.shears)
        d_out, d_in = len(shallow.outgoing), _inputs(shallow)
        stem, head = (place(part, len(shallow.size)) for part in (program.eye[:, :d_in], program.eye[-d_out:]))
    if shallow.padding == "zeros":
        stem = nn.Sequential(Bounded(shallow.radius), stem)
    return stem, blocks, head


def _inputs(shallow: ShallowConvolution) -> int:
    return shallow.weight.shape[-1 - len(shallow.size)]


def _gathered(shallow: ShallowConvolution, slope: float) -> Program:
    """Every shift of the input in channels of its own, each copied from its neighbour; then the neurons."""
    d_in, path = _inputs(shallow), closed_path(shallow.size)
    program = Program(shallow, d_in * len(path) + len(shallow.outgoing), slope)
    shifts = [program.here]
    for t, step in enumerate(path[:-1]):
        program.add(*((d_in * (t + 1) + i, {(d_in * t + i, step): 1.0}, 0.0) for i in range(d_in)))
        shifts.append(_sum(shallow.size, shifts[-1], step))
    for weight, bias, outgoing in zip(shallow.weight, shallow.bias, shallow.outgoing.T, strict=True):
        taps: Taps = {
            (d_in * t + i, program.here): float(weight[(i, *shift)])
            for t, shift in enumerate(shifts)
            for i in range(d_in)
        }
        program.add_neuron(taps, float(bias), outgoing)
    return program


def _carried(shallow: ShallowConvolution, slope: float) -> Program:
    """Constant width: y_t = S y_(t-1) + v_t u around a closed path, in two accumulators A and B that swap.

    A holds y_(t-1) and B holds y_(t-2), which is a local function of A and u: so B may become y_t without being read.
    After each round A holds a neuron's preactivation.
    """
    d_in, path = _inputs(shallow), closed_path(shallow.size)
    program = Program(shallow, d_in + 2 + len(shallow.outgoing), slope)
    remaining = [program.here]  # the shifts that a term still undergoes when it is added, from the last step back
    for step in reversed(path[1:]):
        remaining.append(_sum(shallow.size, remaining[-1], step))
    remaining.reverse()
    a, b = d_in, d_in + 1
    before: tuple[Shift, list[float]] | None = None  # the step and the weights by which A came about
    weight = torch.zeros_like(shallow.weight[0])
    for next_weight, bias, outgoing in zip(shallow.weight, shallow.bias, shallow.outgoing.T, strict=True):
        change, weight = next_weight - weight, next_weight
        for step, shift in zip(path, remaining, strict=True):
            v = [float(change[(i, *shift)]) for i in range(d_in)]
            taps: Taps = {(i, program.here): v[i] for i in range(d_in)}
            if before is not None:
                back = tuple(-s for s in before[0])
                taps[a, step] = taps.get((a, step), 0.0) + 1.0
                taps[a, back] = taps.get((a, back), 0.0) - 1.0
                for i in range(d_in):
                    taps[i, back] = taps.get((i, back), 0.0) + before[1][i]
            program.add((b, taps, 0.0))
            a, b, before = b, a, (step, v)
        program.add_neuron({(a, program.here): 1.0}, float(bias), outgoing)
    return program


def _by_position(shallow: ShallowConvolution, slope: float) -> Program:
    """Zero padding: a constant that is shifted tells positions apart, so that each neuron acts at its own alone.

    The accumulator y becomes the preactivation at one position, and at all others it is below 0 on bounded inputs.
    """
    d_in, d_out = _inputs(shallow), len(shallow.outgoing)
    program = Program(shallow, d_in + 3 + d_out, slope)
    one, y, scratch = d_in, d_in + 1, d_in + 2
    program.add((one, {}, 1.0))
    content: dict[tuple[int, Shift], float] = {}
    for j, position in product(range(len(shallow.weight)), product(*map(range, shallow.size))):
        weight, bias = shallow.weight[(j, *position)], float(shallow.bias[(j, *position)])
        height = abs(bias) + shallow.radius * float(weight.abs().sum()) + 1
        wanted = {
            (i, tuple(q - p for q, p in zip(other, position, strict=True))): float(weight[(i, *other)])
            for i in range(d_in)
            for other in product(*map(range, shallow.size))
        }
        wanted[one, program.here] = bias - height
        for corner in product((0, 1), repeat=len(shallow.size)):
            begins = tuple(p + c for p, c in zip(position, corner, strict=True))
            if all(p < n for p, n in zip(begins, shallow.size, strict=True)):
                key = one, tuple(-p for p in begins)
                wanted[key] = wanted.get(key, 0.0) + height * (-1) ** sum(corner)
        _change(program, y, scratch, content, wanted)
        content = wanted
        program.add_neuron({(y, program.here): 1.0}, 0.0, shallow.outgoing[(slice(None), j, *position)])
    return program


def _change(
    program: Program,
    target: int,
    scratch: int,
    content: dict[tuple[int, Shift], float],
    wanted: dict[tuple[int, Shift], float],
) -> None:
    """Add to a channel what it lacks: near shifts in one step, each farther one by commutators."""
    lacks = {key: wanted.get(key, 0.0) - content.get(key, 0.0) for key in {**content, **wanted}}
    near: Taps = {key: v for key, v in lacks.items() if max(map(abs, key[1])) <= 1 and v}
    if near:
        program.add((target, near, 0.0))
    for (channel, shift), v in lacks.items():
        if (channel, shift) not in near and v:
            program.add_far(target, channel, shift, v, scratch)


def _sum(size: Shift, first: Shift, second: Shift) -> Shift:
    return tuple((p + q) % n for p, q, n in zip(first, second, size, strict=True))

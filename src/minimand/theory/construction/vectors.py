"""U1 as code: a state z = (u, v) holds the input u and the output v, and the block of a layer adds a neuron of u to v.

T_k(z) = (0, a_k act(w_k u + c_k) / gain_k). A consistent method leaves u as it is at every query, and what layer k adds
reaches the output with the gain of the layer, so the output is the shallow network's. Where a gain is 0, pulses add
each neuron in several layers. (The lift of Wu et al. 2024; docs/understand/universality.md)
"""

from typing import Any

import torch
from torch import nn

from ..._support.errors import MinimandError
from ...algorithms import Algorithm
from ..kernel import Binding, kernel
from .coupling import Block, Shear, check_constructible, coupled, step


def vector_parts(
    shallow: nn.Sequential, algorithm: Algorithm, binding: Binding
) -> tuple[nn.Module, list[Block], nn.Module]:
    """The stem, the blocks and the head of the deep network of a shallow one on vectors."""
    first, activation, last = _parts(shallow)
    neurons, d_in, d_out = first.out_features, first.in_features, last.out_features
    check_constructible(algorithm, neurons)
    like: dict[str, Any] = {"device": first.weight.device, "dtype": first.weight.dtype}
    eye = torch.eye(d_in + d_out, **like)
    stem, head = nn.Linear(d_in, d_in + d_out, **like), nn.Linear(d_in + d_out, d_out, bias=False, **like)

    def neuron(k: int, weight: float) -> nn.Module:
        incoming, outgoing = nn.Linear(d_in + d_out, 1, **like), nn.Linear(1, d_in + d_out, bias=False, **like)
        incoming.weight.copy_(first.weight[k] @ eye[:d_in])
        incoming.bias.fill_(0 if first.bias is None else first.bias[k])
        outgoing.weight.copy_((last.weight[:, k] * weight @ eye[d_in:])[:, None])
        return nn.Sequential(incoming, activation, outgoing)

    with torch.no_grad():
        stem.weight.copy_(eye[:, :d_in])
        stem.bias.zero_()
        if last.bias is not None:
            stem.bias[d_in:] = last.bias
        head.weight.copy_(eye[d_in:])
        gains = _gains(algorithm, neurons)
        if all(abs(gain) > 1e-12 for _, gain in gains):
            steps = [{oracle: neuron(k, 1 / gain)} for k, (oracle, gain) in enumerate(gains)]
            blocks = [step(algorithm, binding, answers) for answers in steps]
        else:
            shears = [Shear("map", lambda weight, k=k: neuron(k, weight)) for k in range(neurons)]
            blocks = coupled(algorithm, binding, shears)
    return stem, blocks, head


def _gains(algorithm: Algorithm, depth: int) -> list[tuple[str, float]]:
    """The oracle to use in each layer, with the gain of all its answers together."""
    by_layer: list[dict[str, float]] = [{} for _ in range(depth)]
    for answer, gain in kernel(algorithm, depth).gains.items():
        gains = by_layer[answer.layer]
        gains[answer.oracle] = gains.get(answer.oracle, 0.0) - gain  # the answer is -T
    return [max(gains.items(), key=lambda item: abs(item[1])) for gains in by_layer]


def _parts(shallow: nn.Module) -> tuple[nn.Linear, nn.Module, nn.Linear]:
    match list(shallow) if isinstance(shallow, nn.Sequential) else []:
        case [nn.Linear() as first, activation, nn.Linear() as last] if (
            first.out_features == last.in_features and _acts_entry_by_entry(activation, first)
        ):
            return first, activation, last
    children = [str(m) for m in shallow.children()] if isinstance(shallow, nn.Module) else ""
    raise MinimandError(
        f"shallow is {type(shallow).__name__}{children}; "
        "expected nn.Sequential(nn.Linear, activation, nn.Linear), with an activation that acts entry by entry."
    )


def _acts_entry_by_entry(activation: nn.Module, first: nn.Linear) -> bool:
    v = torch.linspace(-2, 2, 5 * first.out_features).to(first.weight).reshape(5, -1)
    try:
        with torch.no_grad():
            together, apart = activation(v), torch.cat([activation(column) for column in v.split(1, dim=1)], dim=1)
    except (RuntimeError, ValueError):  # torch raises these for sizes that a module does not take
        return False
    return together.shape == apart.shape and torch.allclose(together, apart)

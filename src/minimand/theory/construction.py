"""The proof of universality as code: a shallow network rewritten, exactly, as a deep narrow one.

A state z = (u, v) holds the input u and the output v. The block of layer k computes neuron k from u and adds it to
v: T_k(z) = (0, a_k act(w_k u + c_k) / gain_k). A consistent method leaves u as it is at every query, and what
layer k adds reaches the output with the gain of the layer, so the output is the shallow network's. (U1; the lift of
Wu et al. 2024. docs/theory.md)
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError
from ..algorithms import Algorithm, as_algorithm, is_map, is_proximal
from ..blocks.proximal import Prox
from .kernel import AlgorithmLike, Binding, check_binding, consistency, kernel

if TYPE_CHECKING:
    from ..networks.unrolled import Unrolled


class Neuron(nn.Module):
    """T(z) = outgoing act(incoming z + bias), one hidden unit; plus z under the operator binding."""

    def __init__(self, incoming: nn.Linear, activation: nn.Module, outgoing: nn.Linear, binding: Binding) -> None:
        super().__init__()
        self.incoming, self.activation, self.outgoing = incoming, activation, outgoing
        self.skips = binding == "operator"

    def forward(self, z: Tensor) -> Tensor:
        """The block's output, (N, width), of states of that shape."""
        moved = self.outgoing(self.activation(self.incoming(z)))
        return z + moved if self.skips else moved


class ProximalNeuron(Prox):
    """A neuron N in an implicit step: p = v + s N(v) solves p = v + s N(p), as N reads nothing that it moves."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, point: Tensor, step_size: float | Tensor) -> Tensor:
        """The new point, of the shape of `point`."""
        return point + step_size * self.neuron(point)


class DeepNarrow(nn.Sequential):
    """A deep narrow network: a stem (N, d_in) to (N, d_in + d_out), an unrolled algorithm, a head to (N, d_out)."""

    stem: nn.Linear
    stage: "Unrolled"
    head: nn.Linear


def construct(shallow: nn.Sequential, algorithm: AlgorithmLike, binding: Binding = "residual") -> DeepNarrow:
    """The deep network of an algorithm that computes the same function as a shallow one.

    A shallow network `nn.Sequential(Linear(d_in, n), activation, Linear(n, d_out))` becomes one of width d_in + d_out
    with n layers of one hidden unit. The algorithm has to be consistent, with every gain nonzero at depth n.
    """
    from ..networks.unrolled import unroll

    check_binding(binding)
    algorithm = as_algorithm(algorithm)
    if any(map(is_map, algorithm.oracles)):
        raise MinimandError(f"{algorithm} normalizes a part of its state; no construction is known for it.")
    first, activation, last = _parts(shallow)
    neurons, d_in, d_out = first.out_features, first.in_features, last.out_features
    gains = _gains(algorithm, neurons)
    like: dict[str, Any] = {"device": first.weight.device, "dtype": first.weight.dtype}
    eye = torch.eye(d_in + d_out, **like)
    stem, head = nn.Linear(d_in, d_in + d_out, **like), nn.Linear(d_in + d_out, d_out, bias=False, **like)
    blocks = []
    with torch.no_grad():
        stem.weight.copy_(eye[:, :d_in])
        stem.bias.zero_()
        if last.bias is not None:
            stem.bias[d_in:] = last.bias
        head.weight.copy_(eye[d_in:])
        for k, (oracle, gain) in enumerate(gains):
            incoming, outgoing = nn.Linear(d_in + d_out, 1, **like), nn.Linear(1, d_in + d_out, bias=False, **like)
            incoming.weight.copy_(first.weight[k] @ eye[:d_in])
            incoming.bias.fill_(0 if first.bias is None else first.bias[k])
            outgoing.weight.copy_((last.weight[:, k] / gain @ eye[d_in:])[:, None])
            if is_proximal(oracle):
                neuron = ProximalNeuron(Neuron(incoming, activation, outgoing, "residual"))
            else:
                neuron = Neuron(incoming, activation, outgoing, binding)
            silent = {o: _silent(o, binding) for o in algorithm.oracles}
            blocks.append({**silent, oracle: neuron} if len(silent) > 1 else neuron)
    stage = unroll(algorithm, blocks, binding).to(**like)
    return DeepNarrow(OrderedDict(stem=stem, stage=stage, head=head))


def _gains(algorithm: Algorithm, depth: int) -> list[tuple[str, float]]:
    """The oracle to use in each layer, with the gain of all its answers together."""
    gradients = kernel(algorithm, depth)
    name = type(algorithm).__name__
    consistent, why = consistency(gradients)
    if not consistent:
        raise MinimandError(f"{name} is not consistent: {why}; the input would not survive to the last layer.")
    by_layer = []
    for layer in range(depth):
        gains: dict[str, float] = {}
        for answer, gain in gradients.gains.items():
            if answer.layer == layer:
                gains[answer.oracle] = gains.get(answer.oracle, 0.0) - gain  # the answer is -T
        oracle = max(gains, key=lambda o: abs(gains[o]), default=None)
        if oracle is None or abs(gains[oracle]) < 1e-12:
            raise MinimandError(
                f"layer {layer} of {depth} does not reach the output of {algorithm}: its gain is 0. Expected every "
                f"gain to be nonzero; mm.certify(..., depth={depth}) shows them and what would repair it."
            )
        by_layer.append((oracle, gains[oracle]))
    return by_layer


class _Still(Prox):
    def forward(self, point: Tensor, step_size: float | Tensor) -> Tensor:
        return point


class _Zero(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)


def _silent(oracle: str, binding: Binding) -> nn.Module:
    if is_proximal(oracle):
        return _Still()
    return _Zero() if binding == "residual" else nn.Identity()


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
    except (RuntimeError, ValueError):  # torch's, on a size that the module does not take
        return False
    return together.shape == apart.shape and torch.allclose(together, apart)

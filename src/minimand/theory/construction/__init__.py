"""The proofs of docs/understand/universality.md as code: shallow networks rewritten, exactly, as deep ones."""

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..._support.errors import MinimandError
from ...algorithms import as_algorithm, is_map
from ..kernel import AlgorithmLike, Binding, check_binding
from ..splitting import Splitting, check_splitting
from .images import ShallowConvolution as ShallowConvolution, image_parts
from .tokens import ShallowAttention as ShallowAttention, token_parts
from .vectors import vector_parts

if TYPE_CHECKING:
    from ...networks.unrolled import Unrolled

Shallow = nn.Sequential | ShallowConvolution | ShallowAttention


class DeepNarrow(nn.Sequential):
    """A deep narrow network: a stem that widens the input, an unrolled algorithm, a head that picks the output."""

    stem: nn.Module
    stage: "Unrolled"
    head: nn.Module


def construct(
    shallow: Shallow,
    algorithm: AlgorithmLike,
    binding: Binding = "residual",
    *,
    gather: bool = False,
    splitting: Splitting | None = None,
) -> DeepNarrow:
    """The deep network of an algorithm that computes the same function as a shallow one.

    `nn.Sequential(Linear(d_in, n), activation, Linear(n, d_out))` becomes one of width d_in + d_out with a layer of one
    hidden unit for each neuron, or, where a gain is 0, as many layers for each as there are pulses (U1). A
    `ShallowConvolution` becomes convolutional blocks of constant width (U6), a `ShallowAttention` attention and maps
    of tokens (U7); both need pulses.

    Args:
        shallow: the network to rewrite.
        algorithm: a consistent one.
        binding: how a block becomes a gradient; under `operator` the blocks have a skip.
        gather: of a circular `ShallowConvolution`, whether every shift of the input has channels of its own; few layers
            and many channels, in place of many and few.
        splitting: of a `ShallowAttention`, how a layer is cut into blocks, by default `whole`; None for an algorithm
            that asks two oracles.

    Raises:
        MinimandError: an algorithm that is not consistent, has no pulses where they are needed, or normalizes a part of
            its state; an option of another kind of network.
    """
    from ...networks.unrolled import unroll

    check_binding(binding)
    algorithm = as_algorithm(algorithm)
    if gather and not (isinstance(shallow, ShallowConvolution) and shallow.padding == "circular"):
        raise MinimandError("gather is True; it is for a ShallowConvolution with padding='circular'.")
    if isinstance(shallow, ShallowAttention):
        oracles = [oracle for oracle in algorithm.oracles if not is_map(oracle)]
        if splitting is None and len(oracles) == 1:
            splitting = "whole"
        check_splitting(splitting, oracles)
        stem, blocks, head = token_parts(shallow, algorithm, binding, splitting)
    elif splitting is not None:
        raise MinimandError(f"splitting is {splitting!r}, but shallow is {type(shallow).__name__}; it cuts attention.")
    elif isinstance(shallow, ShallowConvolution):
        stem, blocks, head = image_parts(shallow, algorithm, binding, gather)
    else:
        stem, blocks, head = vector_parts(shallow, algorithm, binding)
    stage = unroll(algorithm, blocks, binding)
    for name, c in algorithm.learnable().items():  # in the precision of the weights, which were made for these values
        whole = torch.full_like(stage.coefficients[name], float(c.initial), dtype=next(head.parameters()).dtype)
        stage.coefficients[name] = nn.Parameter(whole)
    return DeepNarrow(OrderedDict(stem=stem, stage=stage, head=head))

"""The Jacobian of a block at a state: its norm and its spectral radius, by products with it."""

import copy
import math
from typing import Any

import torch
from torch import Tensor

from ..._support.torch.internals import saved_tensors_are_hooked, unhooked
from ...algorithms import leaves, rebuild
from ..gradient import Attached, asked_with_graph, zeros_for_none
from ..packing import Packing
from .equations import BlockEquations


def jacobian_norm(equations: BlockEquations, attached: Attached) -> Tensor:
    """An estimate of |J|^2 / numel(z), of J the Jacobian of the block at a state: |v^T J|^2 for one v ~ N(0, I).

    It has a gradient to the block's parameters (Bai et al., 2021). Within a checkpoint the block is asked once more,
    as a graph of the checkpoint would be made anew to be differentiated.
    """
    if saved_tensors_are_hooked():
        with unhooked():
            return _jacobian_norm(asked_with_graph(equations, attached.point))
    return _jacobian_norm(attached)


def _jacobian_norm(attached: Attached) -> Tensor:
    points, answers = leaves(attached.point), leaves(attached.answer)
    normal = [torch.randn_like(a) for a in answers]
    products = torch.autograd.grad(answers, points, normal, create_graph=True, allow_unused=True)
    squares = [p.square().sum() for p in zeros_for_none(products, points)]
    return torch.stack(squares).sum() / sum(p.numel() for p in points)


def radius_at(equations: BlockEquations, state: Any, iterations: int) -> float:
    """The largest spectral radius of the block's Jacobian over the samples, by power iteration from noise."""
    with torch.inference_mode(False), torch.no_grad():
        return _radius_at(*_recordable(equations, state), iterations)


def _recordable(equations: BlockEquations, state: Any) -> tuple[BlockEquations, Any]:
    """Equations and a state without tensors of `torch.inference_mode`, of which no graph can be made."""
    equations = copy.copy(equations)
    equations.all_inputs = equations.inputs = tuple(map(_recorded, equations.all_inputs))
    equations.shared = {name: _recorded(value) for name, value in equations.shared.items()}
    return equations, _recorded(state)


def _recorded(value: Any) -> Any:
    parts = leaves(value)
    return rebuild(value, [x.clone() if isinstance(x, Tensor) and x.is_inference() else x for x in parts])


def _radius_at(equations: BlockEquations, state: Any, iterations: int) -> float:
    with torch.random.fork_rng(devices=[]), unhooked():
        torch.manual_seed(0)
        attached = asked_with_graph(equations, state)
        points, answers = leaves(attached.point), leaves(attached.answer)
        noise = [torch.randn(a.shape).to(a) for a in answers]
    packing = Packing(tuple(noise))
    rows = packing.pack(noise)
    growth: list[Tensor] = []
    for _ in range(iterations):
        rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
        vectors = packing.unpack(rows)
        products = torch.autograd.grad(answers, points, vectors, retain_graph=True, allow_unused=True)
        rows = packing.pack(zeros_for_none(products, points))
        growth.append(rows.norm(dim=1).clamp_min(1e-30).log())
    # Averaged, as complex eigenvalues make the growth differ from step to step.
    late = torch.stack(growth[len(growth) // 2 :]).mean(0)
    return math.exp(float(late.max()))

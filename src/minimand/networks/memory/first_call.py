"""What is tried once, before a stage runs backwards in training: does it come back, and do blocks repeat themselves?"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ...equilibrium import Equilibrium
from ...layers.thresholds import Threshold
from ..undisturbed import buffers_back
from .arithmetic import relative
from .reversible import Pass


def roundoff(run: Pass) -> float:
    """The error of the first query after a stage ran forward and back, relative to it, or to the first step if larger.

    Leaves random state and buffers as they were.

    Raises:
        MinimandError: a block that answers otherwise when it is asked again.
    """
    modules = [module for call in run.modules for module in call]
    devices = [run.states.query.device] if run.states.query.is_cuda else []
    back = [buffers_back(module) for module in modules]
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        first = run.states.query
        sizes = [first.double().norm()]
        for t, step in enumerate(run.steps):
            query = run.states.query
            answers = run.answers(t, query)
            _, again = run.again(t, query, [], record=run.exact)
            _check(run, t, answers, again)
            d = run.states.advance(step, answers)
            sizes += [d.double().norm()] if t == 0 else []
        for t in reversed(range(len(run.steps))):
            run.states.look_back()
            _, answers = run.again(t, run.states.query, [], record=run.exact)
            run.states.retreat(run.steps[t], [answer.detach() for answer in answers])
    for put_back in back:
        put_back()
    return float(relative((run.states.query - first).double().norm(), torch.stack(sizes).amax()))


def _check(run: Pass, t: int, first: Sequence[Tensor], again: Sequence[Tensor]) -> None:
    for block, module, a, b in zip(run.factors[t].blocks, run.modules[t], first, again, strict=True):
        same = torch.equal(a, b) if run.exact else torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True)
        if not same and bool(a.isfinite().all()):
            raise MinimandError(
                f"block {block.layer} ({type(module).__name__}) answers otherwise when it is asked the same again, by "
                f"up to {float((a - b).abs().max()):.2g}; memory='reversible' asks twice. Expected a block that draws "
                "its random numbers from torch's generators, or memory='store'."
            )


def check_blocks(modules: Sequence[nn.Module]) -> None:
    """Raise MinimandError for blocks with a part that cannot run backwards."""
    for module in modules:
        name = type(module).__name__
        is_wrapped = name.startswith("FSDP")
        sharded = next((n for n, p in module.named_parameters() if is_wrapped or hasattr(p, "placements")), None)
        if sharded is not None:  # its values are away when the block runs again
            raise MinimandError(
                f"{sharded} of {name} is sharded (FSDP), which memory='reversible' cannot run with; expected "
                "DistributedDataParallel, or memory='checkpoint' with FSDP."
            )
        for part in module.modules():
            if isinstance(part, Equilibrium) and part.jacobian_weight and part.training:
                raise MinimandError(
                    f"an equilibrium in {name} has jacobian_weight={part.jacobian_weight:g}, a penalty of the loss, of "
                    "which memory='reversible' keeps no graph; expected jacobian_weight=0, or memory='checkpoint'."
                )
            if isinstance(part, Threshold) and part.rule is not None:
                raise MinimandError(
                    f"{name} has thresholds, which target propagation gives targets in one pass, and with "
                    "memory='reversible' they run again in the backward pass; expected memory='checkpoint', or "
                    "mm.TargetPropagation(recompute=True) and no memory."
                )

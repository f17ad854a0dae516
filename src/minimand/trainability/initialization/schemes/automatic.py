"""The scheme that a model asks for."""

import torch

from ....networks.kinds import NORMALIZATIONS
from ...mean_field.finite_width import beta_of
from ...measure.flow import Applied
from ..job import Job
from .registry import SCHEMES, scheme

# Beyond it the sizes of ReLU signals fluctuate more than they stay: 5 sum 1 / width.
_FLUCTUATION = 1.0


@scheme()
def auto(job: Job) -> str:
    """The scheme for the structure of the model: the first of these that fits.

    Residual branches: depth. Normalization: kaiming. A sigmoid: sigmoid_recentred. ReLU and its leaky kin: kaiming,
    with a note if the network is too deep for its width. Any other activation: critical; orthogonal, half-stable for
    GELU. Recurrent layers are set by `recurrent` in any case.
    """
    chosen = _choose(job)
    rest, own = [[layer for layer in job.layers if layer.recurrent is kind] for kind in (False, True)]
    if own:
        job.layers = own
        SCHEMES["recurrent"](job, {})
        job.layers = rest
    if rest:
        SCHEMES[chosen](job, {})
    job.layers = rest + own
    return " and ".join([chosen] * bool(rest) + ["recurrent"] * bool(own))


def _choose(job: Job) -> str:
    if job.branches:
        return "depth"
    if any(isinstance(module, NORMALIZATIONS) for module in job.model.modules()):
        return "kaiming"
    known = {layer.reads for layer in job.layers if layer.reads is not None}
    if any(activation.name == "sigmoid" for activation in known):
        return "sigmoid_recentred"
    if not known or not all(map(_leaky, known)):
        return "critical" if known else "kaiming"
    spread = 5 * beta_of([layer.module for layer in job.layers])
    if spread > _FLUCTUATION:
        job.notes.append(
            f"5 x sum of 1 / width is {spread:.3g}: the sizes of signals will fluctuate; a wider network, a skip or a "
            "normalization helps."
        )
    return "kaiming"


def _leaky(activation: Applied) -> bool:
    h = torch.tensor([-1.0, 1.0])
    return torch.allclose(activation.function(3 * h), 3 * activation.function(h.clone()))

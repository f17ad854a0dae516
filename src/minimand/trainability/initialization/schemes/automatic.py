"""The scheme that a model asks for by its structure."""

import torch

from ....networks.kinds import has_normalization
from ...mean_field.depth_scales import beta_of
from ...measure.flow import AppliedActivation
from ..scheme import SCHEMES, Job, scheme

# Above this value of 5 sum 1 / width the sizes of ReLU signals fluctuate more than they stay.
_FLUCTUATION = 1.0


@scheme("auto")
def auto(job: Job) -> str:
    """The scheme for the structure of the model: the first of these that fits.

    Residual branches: depth. Normalization: kaiming. A sigmoid: sigmoid_recentred. ReLU and its leaky kin: kaiming,
    with a note if the network is too deep for its width. Any other activation: critical; orthogonal, half-stable for
    GELU. Recurrent layers are set by `recurrent` in any case.
    """
    chosen = _choose(job)
    layers = {chosen: [layer for layer in job.layers if not layer.recurrent]}
    layers["recurrent"] = [layer for layer in job.layers if layer.recurrent]
    for name in ("recurrent", chosen):
        job.layers = layers[name]
        if job.layers:
            SCHEMES[name](job, {})
    job.layers = layers[chosen] + layers["recurrent"]
    return " and ".join(name for name in layers if layers[name])


def _choose(job: Job) -> str:
    if job.branches:
        return "depth"
    if has_normalization(job.model):
        return "kaiming"
    activations = {layer.reads for layer in job.layers if layer.reads is not None}
    if any(activation.name == "sigmoid" for activation in activations):
        return "sigmoid_recentred"
    if not activations or not all(map(_leaky, activations)):
        return "critical" if activations else "kaiming"
    fluctuation = 5 * beta_of([layer.module for layer in job.layers])
    if fluctuation > _FLUCTUATION:
        job.notes.append(
            f"5 x sum of 1 / width is {fluctuation:.3g}: the sizes of signals will fluctuate; a wider network, a skip "
            "or a normalization helps."
        )
    return "kaiming"


def _leaky(activation: AppliedActivation) -> bool:
    h = torch.tensor([-1.0, 1.0])
    return torch.allclose(activation.function(3 * h), 3 * activation.function(h.clone()))

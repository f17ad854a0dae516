"""Recurrent layers: orthogonal gates, and a forget gate that is open at the start."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from ...._support.checks import check_number
from ...._support.errors import MinimandError
from ..scheme import Job, scheme
from ..weighted_layers import WeightBlock, WeightedLayer


@scheme("recurrent", traced=False, references=("jozefowicz2015empirical", "tallec2018chrono"))
def recurrent(job: Job, timescale: int | None = None, forget: float = 1.0) -> None:
    """Recurrent weights orthogonal and input weights Xavier, gate by gate; the LSTM's forget gate open.

    Its bias counts twice, in bias_ih and bias_hh: the sum is `forget`, 1 as in Jozefowicz et al. (2015), the second
    being 0. With `timescale` T, chrono initialization: log U(1, T - 1), and the input gate's minus that (Tallec &
    Ollivier, 2018); a GRU's update gate, which keeps what an LSTM's forget gate does, has it alone.
    """
    if timescale is not None:
        check_number("timescale", timescale, 3, math.inf, whole=True)
    layers = [layer for layer in job.layers if layer.recurrent]
    if not layers:
        kinds = ", ".join(sorted({type(layer.module).__name__ for layer in job.layers}))
        raise MinimandError(f"recurrent sets nn.RNN, nn.LSTM, nn.GRU and their cells; the model has {kinds}.")

    def fill(weight: Tensor, block: WeightBlock) -> None:
        draw = nn.init.orthogonal_ if "weight_hh" in block.parameter else nn.init.xavier_uniform_
        draw(weight, generator=job.generator)

    for layer in layers:
        job.fill(layer, "orthogonal (hh), Xavier (ih) by gate", fill)
        for name in layer.named("bias"):
            if "bias_ih" in name:
                _bias(job, layer, name, timescale, forget)
    job.left_alone.update((layer.name, "not recurrent") for layer in job.layers if not layer.recurrent)


def _bias(job: Job, layer: WeightedLayer, name: str, timescale: int | None, forget: float) -> None:
    """Set the part of a bias that opens the gate which keeps the state."""
    lstm = isinstance(layer.module, nn.LSTM | nn.LSTMCell)
    if not lstm and (timescale is None or not isinstance(layer.module, nn.GRU | nn.GRUCell)):
        return
    size = cast(nn.LSTM, layer.module).hidden_size

    def fill(bias: Tensor) -> None:
        keep = bias[size : 2 * size]
        if timescale is None:
            keep.fill_(forget)
            return
        nn.init.uniform_(keep, 1, timescale - 1, generator=job.generator).log_()
        if lstm:
            bias[:size] = -torch.clone(keep)

    job.set(name, f"forget {forget:g}" if timescale is None else f"chrono {timescale}", fill)

"""A validation part: some of the training samples kept out of training, to choose by."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import Subset

from .._support.errors import MinimandError, WrongTypeError
from .data import Data
from .samples import Arrays, Items, Samples


def hold_out(data: Data, share: float, seed: int) -> Data:
    """The data with a random share of its training samples in place of the test samples, which stay unseen.

    Raises:
        MinimandError: too few samples for both parts. WrongTypeError: samples that come in somebody else's batches.
    """
    n = len(data.train)
    count = round(share * n)
    if not 0 < count < n:
        raise MinimandError(
            f"{data.name} has {n} training samples; expected at least {-(-1 // share):.0f}, of which a share of "
            f"{share:g} can be held out."
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return replace(data, train=_chosen(data.train, order[count:]), test=_chosen(data.train, order[:count]), loaded={})


def _chosen(samples: Samples, indices: Tensor) -> Samples:
    if isinstance(samples, Arrays):
        indices = indices.to(samples.inputs.device)
        return Arrays(samples.inputs[indices], samples.targets[indices])
    if isinstance(samples, Items):
        return Items(Subset(samples.dataset, indices.tolist()), samples.workers)
    raise WrongTypeError(
        f"the training samples are a {type(samples).__name__}, whose batches are given; expected tensors or a data "
        "set, of which a part can be held out."
    )

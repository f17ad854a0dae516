"""Residual branches: how much each of them adds at the start."""

from torch import nn

from ...._support.errors import MinimandError
from ....networks.kinds import LINEAR_OR_CONVOLUTION, is_transformers_linear, normalizations
from ...measure.tracing import total_gain
from ..scheme import Job, scheme
from ..weights import bias_by_scalars, scale
from .variance import kaiming


@scheme("depth", needs=("branches",), references=("he2015delving", "hanin2018start", "tarnowski2019dynamical"))
def depth(job: Job) -> None:
    """Kaiming weights, and each branch divided by the root of the sum of all squared gains.

    The gain of a branch is how strongly the algorithm brings its output to the end, 1 for ResNet: there it is
    1 / sqrt(depth), and the variance grows by e at most, for any depth and activation (Hanin & Rolnick, 2018; Tarnowski
    et al., 2019). With momentum early branches reach the end more strongly, so all start smaller. A learned factor on a
    branch, such as a layer scale, stays as it is.
    """
    kaiming(job)
    factor = 1 / total_gain(job.branches)
    for branch in job.branches:
        for name in job.leaves(branch.norm) if branch.norm is not None else ():
            rule, fill = ("1", nn.init.ones_) if name.endswith("weight") else ("0", nn.init.zeros_)
            job.set(name, rule, fill)
        job.resize(branch, factor)
    job.note_on_branches(factor)


@scheme("skipinit", needs=("branches",), references=("he2015delving", "de2020skipinit"))
def skipinit(job: Job) -> None:
    """Kaiming weights, and one learned factor at the end of each branch, 0 at the start (De & Smith, 2020).

    A normalization at the end has such factors already, and a layer scale is one; elsewhere a factor is put before the
    last weight and bias of the branch: the state dict changes, so initialize before you make the optimizer.
    """
    for branch in job.branches:
        if branch.norm is None and branch.factor is None:
            for end in branch.ends:
                module = job.model.get_submodule(end)
                if not isinstance(module, LINEAR_OR_CONVOLUTION) and not is_transformers_linear(module):
                    raise MinimandError(f"{end} ends a branch and is no linear or convolutional layer to scale.")
                scale(job.model, end, 1.0)
    kaiming(job)
    for branch in job.branches:
        if branch.norm is not None:
            for name in job.size_of(branch):
                job.set(name, "0", nn.init.zeros_)
        elif branch.factor is not None:
            job.set(branch.factor, "0", nn.init.zeros_)
        else:
            for end in branch.ends:
                scale(job.model, end, 0.0)
                job.notes.append(f"{end}: a learned factor of 0 before its weight and bias.")


@scheme("rezero", needs=("branches",), references=("he2015delving", "bachlechner2021rezero"))
def rezero(job: Job) -> None:
    """Branches x + a T(x) with a = 0 at the start, for networks without normalization (Bachlechner et al., 2021).

    The weights are those of `skipinit`. Each branch has its own a; the paper's transformer shares one between the two
    branches of a layer.
    """
    _refuse_norms(job, "rezero")
    skipinit(job)


@scheme("fixup", needs=("branches",), references=("he2015delving", "zhang2019fixup"))
def fixup(job: Job) -> None:
    """Kaiming weights; in each branch the last layer 0 and the m - 1 others times L^(-1 / (2 m - 2)); the last layer 0.

    With a learned factor, 1 at the start, on every branch; L is the number of branches (Zhang et al., 2019). A learned
    number, 0 at the start, is added before every linear or convolutional layer that does not read the batch, and one
    after it where it has no bias of its own: the state dict changes, so initialize before you make the optimizer.
    Gradients are 0 but in the last layer at the first step. Normalization, and a branch of one layer, are errors.
    """
    _refuse_norms(job, "fixup")
    short = [", ".join(branch.layers) for branch in job.branches if len(branch.layers) < 2]
    if short:
        raise MinimandError(f"fixup needs branches of two layers or more; {', '.join(short)} is one by itself.")
    kaiming(job)
    names = {layer.name: layer for layer in job.layers}
    runs = sum(branch.calls for branch in job.branches)
    for branch in job.branches:
        factor = runs ** (-1 / (2 * len(branch.layers) - 2))
        for name in branch.layers:
            if name in branch.ends:
                _zero(job, name)
                scale(job.model, name, 1.0)
            elif name in names:
                for weight in names[name].named("weight"):
                    job.multiply(weight, factor)
    _zero(job, job.layers[-1].name)
    biased = [layer for layer in job.layers if isinstance(layer.module, LINEAR_OR_CONVOLUTION)]
    for layer in biased:
        bias_by_scalars(job.model, layer.name, layer.first)
    job.notes.append(f"{len(biased)} layers: a learned number before, and after where there is no bias.")


def _zero(job: Job, layer: str) -> None:
    for name in job.leaves(layer):
        job.set(name, "0", nn.init.zeros_)


def _refuse_norms(job: Job, name: str) -> None:
    norms = list(normalizations(job.model))
    if norms:
        raise MinimandError(
            f"{name} is for networks without normalization, and {norms[0]} is one of {len(norms)}; use 'skipinit' or "
            "'depth'."
        )

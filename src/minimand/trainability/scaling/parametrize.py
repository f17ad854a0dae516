"""A scaling rule applied to a model: sizes at the start, and the factors that its optimizers take from then on."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from ..._support.errors import MinimandError
from ..._support.torch.internals import ConvNd
from ...blocks.attention import Attention
from ...networks.kinds import NORMALIZATIONS
from ...networks.skeletons import skeletons
from ...networks.undisturbed import undisturbed
from ...recipes.parameter_groups import NamedParameter, ScalingFactors, set_factors, trainable_parameters
from ..initialization.scheme import Job
from ..initialization.schemes.variance import kaiming
from ..initialization.weighted_layers import weight_blocks
from ..measure.tracing import Branch, branches, telling_solutions, trace
from .counterparts import Counterparts, nothing_like
from .rules import UNIT, DepthRule, DepthScale, GainSums, WidthRatios

# Without a base network, rates are those of one whose layers read and give so many numbers.
BASE_WIDTH = 64


def parametrize_model(job: Job, depth_rule: DepthRule | None, base: nn.Module | None = None) -> None:
    """Set weights by Kaiming's rule and a scaling rule, and keep the rule's factors for the model's optimizers.

    Multipliers are absorbed: what ends a branch, and the last layer, start smaller and move less, which comes to the
    same, so the forward pass and the state dict stay as they are. A last layer that is tied to an embedding keeps its
    weight, and the normalization before it takes the multiplier. Attention of our transformers gets a factor by which
    heads that grow wider have logits of q k / d: a buffer.

    Args:
        depth_rule: what depth keeps; None for width alone.
        base: a network of the family in which settings were tuned, and in which the rule changes none; by default one
            of layers that read 64 numbers, and of one branch of gain 1.

    Raises:
        MinimandError: other tied weights, or parametrized ones; for depth, a rewired model, gains of 0, normalized
            sums, or a branch that trains and whose end is left alone; a base that lacks a kind of layer.
    """
    _refuse_parametrizations(job)
    norm = _before_a_tied_head(job)
    _refuse_ties(job.model, job.layers[-1].named("weight") if norm else ())
    scale = None
    if depth_rule is not None:
        _refuse_wirings(job.model)
        _refuse_normalized_sums(job.branches)
        scale = DepthScale.by(depth_rule, GainSums.of(job.branches), _gains_of(base, job.batch))
    kaiming(job)
    _set_embeddings(job)
    sizes = _Sizes(job, base)
    features = [entry for entry in trainable_parameters(job.model) if not entry.is_coefficient]
    factors = {entry.name: sizes.ratios(entry.name, entry.parameter).factors() for entry in features}
    for name in job.layers[-1].named("weight"):
        inputs = sizes.ratios(name, job.model.get_parameter(name)).inputs
        if norm is None:
            job.multiply(name, inputs**-0.5)
        else:
            width = job.model.get_parameter(name).shape[-1]
            factors |= _with_multiplier(job, norm, 1 / inputs, (inputs / width) ** 0.5, factors)
    _scale_heads(job, base)
    if scale is not None:
        factors |= _branches_scaled(job, scale, factors)
        _refuse_branches_left_alone(job)
        job.note_on_branches(scale.multiplier)
    if job.settings:
        set_factors(job.model, factors)
        job.sets_rates = True
        job.notes += [] if base is not None else map(_note_on_table, filter(sizes.may_be_a_matrix, features))


def _note_on_table(entry: NamedParameter) -> str:
    return (
        f"{entry.name}, {' x '.join(map(str, entry.parameter.shape))}, is no layer's weight: its rate is that of a "
        "table, whose rows are not summed over. Where it is a matrix between features, base= tells by its shape there."
    )


def _before_a_tied_head(job: Job) -> str | None:
    """The normalization just before a last layer whose weight is an embedding's; None where it is not tied."""
    path, _, last = job.layers[-1].name.rpartition(".")
    weight = getattr(job.layers[-1].module, "weight", None)
    if not any(isinstance(m, nn.Embedding) and m.weight is weight for m in job.model.modules()):
        return None
    children = [name for name, _ in job.model.get_submodule(path).named_children()]
    before = [f"{path}.{name}".lstrip(".") for name in children[: children.index(last)]][-1:]
    norms = [name for name in before if isinstance(job.model.get_submodule(name), NORMALIZATIONS) and job.leaves(name)]
    return norms[0] if norms else None


def _with_multiplier(
    job: Job, norm: str, multiplier: float, start: float, widths: Mapping[str, ScalingFactors]
) -> dict[str, ScalingFactors]:
    """The factors of a normalization's parameters, into which a multiplier of what it gives is absorbed.

    `start` is what makes the last layer's answers of order 1 at the base, where embeddings are of order 1.
    """
    changed: dict[str, ScalingFactors] = {}
    for name in job.leaves(norm):
        is_weight = name.endswith("weight")
        job.set(name, "1" if is_weight else "0", nn.init.ones_ if is_weight else nn.init.zeros_)
        job.multiply(name, multiplier * start)
        if name in widths:
            changed[name] = widths[name].absorbing(multiplier)
    return changed


def _set_embeddings(job: Job) -> None:
    """Draw embeddings of order 1, as what a first layer answers: beside them branches are small, however deep."""
    for path, module in job.model.named_modules():
        if isinstance(module, nn.Embedding):

            def fill(weight: Tensor, padding: int | None = module.padding_idx) -> None:
                nn.init.normal_(weight, generator=job.generator)
                if padding is not None:
                    weight[padding] = 0

            job.set(f"{path}.weight".lstrip("."), "std 1", fill)


def _scale_heads(job: Job, base: nn.Module | None) -> None:
    """Give attention the factor by which its logits are q k / d, and at the base's width of a head q k / sqrt(d)."""
    bases = [m.head for m in (() if base is None else base.modules()) if isinstance(m, Attention)]
    for module in job.model.modules():
        if isinstance(module, Attention):
            ratio = module.head / (bases[0] if bases else BASE_WIDTH)
            weight = module.qkv.weight
            module.scale = None if ratio == 1 else weight.new_tensor(ratio**-0.5)


def _branches_scaled(job: Job, scale: DepthScale, widths: Mapping[str, ScalingFactors]) -> dict[str, ScalingFactors]:
    """The factors of all parameters in branches, whose ends are made smaller."""
    changed: dict[str, ScalingFactors] = {}
    names = {layer.name for layer in job.layers}
    for name, width in widths.items():
        branch = _branch_of(name, job.branches, names)
        if branch is not None:
            changed[name] = scale.inside(branch, width)
    for branch in job.branches:
        for name in [branch.factor] if branch.factor else job.size_of(branch):
            if name == branch.factor:
                job.set(name, f"{scale.multiplier:.4g}", lambda value: value.fill_(scale.multiplier))
            else:
                if name in job.leaves(branch.norm or ""):
                    fill = nn.init.ones_ if name.endswith("weight") else nn.init.zeros_
                    job.set(name, "1" if name.endswith("weight") else "0", fill)
                job.multiply(name, scale.multiplier)
            if name in widths:
                changed[name] = scale.at_end(branch, widths[name])
    return changed


def _branch_of(parameter: str, parts: list[Branch], layer_names: set[str]) -> Branch | None:
    """The branch that a parameter is in: that of its layer, or for a normalization that of the nearest layers."""
    path = parameter.split(".")[:-1]
    for end in range(len(path), 0, -1):
        if (name := ".".join(path[:end])) in layer_names:
            return next((branch for branch in parts if name in branch.layers), None)
    shared = [(max(_common(path, layer.split(".")) for layer in branch.layers), branch) for branch in parts]
    depth, nearest = max(shared, key=lambda pair: pair[0], default=(0, None))
    return nearest if depth > 0 and depth >= len(path) - 1 else None


def _common(path: list[str], other: list[str]) -> int:
    """The number of parts that two paths have in common at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(path, other, strict=False)) if a != b), min(len(path), len(other)))


class _Sizes:
    """The width ratios of parameters between a model and its base."""

    def __init__(self, job: Job, base: nn.Module | None) -> None:
        self.layers = {layer.name: layer for layer in job.layers}
        self.last = job.layers[-1].name
        # What reads an embedding is no first layer: it sums over the width.
        self.embeds = any(isinstance(module, nn.Embedding) for module in job.model.modules())
        self.base = None if base is None else Counterparts(job.model, base, self.last)
        self.fans = {
            layer.parameter(block.parameter): (layer.name, block.fan_in, block.fan_out)
            for layer in job.layers
            for block in weight_blocks(layer.module, layer.name)
        }

    def ratios(self, name: str, parameter: Tensor) -> WidthRatios:
        """The ratios of one parameter; a vector sums over nothing."""
        if name in self.fans:
            layer, fan_in, fan_out = self.fans[name]
            return self._of_weight(layer, fan_in, fan_out, name)
        if parameter.numel() == 1:
            return WidthRatios()
        # Of an embedding the last dimension counts, not the rows; a vector may be shaped to be broadcast.
        is_vector = parameter.ndim < 2 or parameter.shape[-1] == 1
        length = max(parameter.shape) if is_vector else parameter.shape[-1]
        if self.base is None:
            is_last = name.rpartition(".")[0] == self.last
            return WidthRatios(1.0, 1.0 if is_last else length / BASE_WIDTH)
        like = self.base.parameter(name)
        ratios = sorted(a / b for a, b in zip(parameter.shape, like.shape, strict=True) if a != b)
        if len(ratios) > 1:  # a matrix between features, whichever way it is used
            return WidthRatios(ratios[-1], ratios[-2])
        return WidthRatios(1.0, ratios[0] if ratios else 1.0)

    def may_be_a_matrix(self, entry: NamedParameter) -> bool:
        """Whether a parameter that is no layer's, and no embedding, has two dimensions that may be features."""
        is_known = entry.name in self.fans or isinstance(entry.owner, nn.Embedding)
        return not is_known and sum(length > 1 for length in entry.parameter.shape) > 1

    def _of_weight(self, layer: str, fan_in: float, fan_out: float, parameter: str) -> WidthRatios:
        module = self.layers[layer].module
        if self.base is not None:
            path, like = self.base.layer(layer)
            leaf = parameter.removeprefix(layer).lstrip(".")
            block = next((b for b in weight_blocks(like, path) if b.parameter == leaf), None)
            if block is None:
                raise nothing_like(parameter)
            return WidthRatios(fan_in / block.fan_in, fan_out / block.fan_out)
        # Inputs count with the taps of a kernel, over all of which a sum runs.
        is_depthwise = isinstance(module, ConvNd) and module.groups == module.in_channels
        is_first = self.layers[layer].first and not self.embeds
        inputs = 1.0 if is_first or is_depthwise else fan_in / BASE_WIDTH
        channels = module.out_channels if isinstance(module, ConvNd) else fan_out
        return WidthRatios(inputs, 1.0 if layer == self.last else channels / BASE_WIDTH)


def _gains_of(base: nn.Module | None, batch: Any) -> GainSums:
    if base is None:
        return UNIT
    parts = branches(base)
    if not parts and batch is not None:
        with undisturbed(base), telling_solutions(base):
            parts = branches(base, trace(base, batch))
    if not parts:
        raise MinimandError(f"base {type(base).__name__} has no residual branches; expected a network like the model.")
    return GainSums.of(parts)


def _refuse_wirings(model: nn.Module) -> None:
    wired = [str(skeleton.algorithm) for skeleton in skeletons(model) if skeleton.is_wired]
    if wired:
        raise MinimandError(
            f"{type(model).__name__} was rewired by {wired[0]}, whose gains are those of whole blocks, skips included; "
            "expected a model as it was made, or stages of mm.unroll. 'mup' scales by width alone."
        )


def _refuse_normalized_sums(branches: list[Branch]) -> None:
    """Raise MinimandError where half of the branches or more are added to a sum that was normalized."""
    norms = [branch.after_norm for branch in branches if branch.after_norm is not None]
    if 2 * len(norms) >= len(branches):
        raise MinimandError(
            f"{norms[0]} normalizes what branches add up to, and its weights move all that comes after them, in every "
            "layer anew: no rule for depth follows. Expected normalization inside the branches, as by "
            "norm_first=True; or 'mup', which scales by width alone; or 'transformer', which is DeepNorm here."
        )


def _refuse_branches_left_alone(job: Job) -> None:
    """Raise MinimandError for a branch that trains, and whose end was left as large as it was."""
    for branch in job.branches:
        parts = [job.model.get_submodule(name) for name in branch.layers]
        if not job.was_sized(branch) and any(p.requires_grad for part in parts for p in part.parameters()):
            end, why = next(
                (n, job.left_alone.get(n, "excluded")) for n in job.size_of(branch) if n not in job.settings
            )
            raise MinimandError(
                f"{end} ends a branch that trains and is left alone, {why}; expected it to be set, as its size is what "
                "a rule for depth sets, or all of the branch to be frozen."
            )


def _refuse_parametrizations(job: Job) -> None:
    for layer in job.layers:
        for leaf in getattr(layer.module, "parametrizations", ()):
            raise MinimandError(
                f"{layer.name}.{leaf} is parametrized, and which rates the parameters that it is made of need is not "
                "known; expected plain weights. A parametrization by one parameter, such as orthogonal or spectral "
                "ones, may be registered after it."
            )


def _refuse_ties(model: nn.Module, allowed: Collection[str]) -> None:
    owners: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        other = owners.setdefault(id(parameter), name)
        if other != name and name not in allowed:
            raise MinimandError(
                f"{name} and {other} are one parameter, which a scaling rule sizes differently in each place; expected "
                "no ties, but of an embedding and a last layer that a normalization is just before. Give the last "
                "layer a weight of its own."
            )

"""The parameters of a model in groups for an optimizer, each with its share of the learning rate."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any, Literal

from torch import nn
from torch.nn.utils import parametrize

from .._support.errors import MinimandError
from ..networks.coefficients import REWIRED
from ..networks.fingerprint import digest
from ..networks.kinds import LINEAR_OR_CONVOLUTION, WRAPPED_NORMALIZATIONS, layers

UpdateRule = Literal["sgd", "adam", "muon"]
"""How a parameter moves: along its gradient, by a step of a set size for each entry, or for the whole matrix."""


@dataclass(frozen=True)
class ScalingFactors:
    """Factors of a scaling rule on the settings of one parameter, by which its rate fits any width and depth."""

    sgd: float = 1.0
    """The factor on the learning rate where updates are proportional to the gradient."""
    adam: float = 1.0
    """The factor on the learning rate where each entry moves by a step of a set size."""
    muon: float = 1.0
    """The factor on the learning rate where a matrix moves by a step of a set spectral norm."""
    epsilon: float = 1.0
    """The factor on Adam's epsilon, by which the size of gradients changes."""

    def absorbing(self, multiplier: float) -> "ScalingFactors":
        """The factors of a parameter that holds a multiplier which would else stand in front of it."""
        a = multiplier
        return ScalingFactors(self.sgd * a**2, self.adam * a, self.muon * a, self.epsilon / a)

    @property
    def size_of_gradient(self) -> float:
        """The factor on an entry of the gradient, over that on an entry of the weight as Adam moves it."""
        return self.epsilon / self.adam

    def rate(self, rule: UpdateRule) -> float:
        """The factor on the learning rate under an update rule; weight decay is divided by it."""
        return {"sgd": self.sgd, "adam": self.adam, "muon": self.muon}[rule]


@dataclass(frozen=True)
class NamedParameter:
    """A trainable parameter with the module that owns it, and what a scaling rule set for it."""

    name: str
    owner: nn.Module
    parameter: nn.Parameter
    factors: ScalingFactors

    @property
    def is_weight(self) -> bool:
        """Whether the parameter mixes features, and so decays; biases, normalization and scales do not."""
        if self.parameter.ndim < 2 or isinstance(self.owner, WRAPPED_NORMALIZATIONS) or self.is_coefficient:
            return False
        # A scale of one's own is a vector that is shaped to be broadcast; a layer's weight may have that shape too.
        is_long = sum(length > 1 for length in self.parameter.shape) > 1
        return isinstance(self.owner, LINEAR_OR_CONVOLUTION) or is_long

    @property
    def is_coefficient(self) -> bool:
        """Whether the parameter is a coefficient of a skeleton, of any shape: of a stage, or of a rewired model."""
        parts = self.name.split(".")
        # A block of a layerwise method lists those of its stages under this name.
        is_of_stage = isinstance(self.owner, nn.ParameterDict) and "coefficients" in parts[-3:-1]
        return is_of_stage or parts[-1].startswith(REWIRED)

    @property
    def is_normalization_bias(self) -> bool:
        """Whether the parameter is what a normalization adds."""
        return self.name.rpartition(".")[2] == "bias" and isinstance(self.owner, WRAPPED_NORMALIZATIONS)


def set_factors(model: nn.Module, factors: Mapping[str, ScalingFactors]) -> None:
    """Set the factors of parameters by name, in place of all that the model had; its copies and parts keep them."""
    for module in model.modules():
        module.__dict__.pop("_scaling", None)
    for name, value in factors.items():
        path, _, leaf = name.rpartition(".")
        # On the owner, where a copy, a pickle, a part of the model and a wrapper around it still find them.
        model.get_submodule(path).__dict__.setdefault("_scaling", {})[leaf] = value


def trainable_parameters(model: nn.Module) -> Iterator[NamedParameter]:
    """The trainable parameters of a model, a shared one once.

    Raises:
        MinimandError: a weight became several, as by weight normalization, after a scaling rule was set for it.
    """
    listed: set[nn.Parameter] = set()
    factors: dict[nn.Module, Mapping[str, ScalingFactors]] = {}
    for path, module in model.named_modules():
        scaling = module.__dict__.get("_scaling") or factors.get(module, {})
        parametrized = _parametrized(module) if scaling else {}
        for leaf in scaling.keys() & parametrized.keys():
            original = parametrized[leaf]
            factors[original] = {"original": scaling[leaf]}
            if not hasattr(original, "original") and any(p.requires_grad for p in original.parameters()):
                raise MinimandError(
                    f"{path}.{leaf}".lstrip(".") + " was parametrized after a scaling rule had set its rate, and is "
                    "several parameters now, whose rates are not known; expected parametrizations by one, such as "
                    "orthogonal or spectral ones."
                )
        for leaf, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in listed:
                listed.add(parameter)
                yield NamedParameter(
                    f"{path}.{leaf}".lstrip("."), module, parameter, scaling.get(leaf, ScalingFactors())
                )


def _parametrized(module: nn.Module) -> dict[str, nn.Module]:
    """What holds the parameters of each parametrized tensor of a module, by the tensor's name."""
    parts = getattr(module, "parametrizations", None) if parametrize.is_parametrized(module) else None
    return dict(parts.named_children()) if isinstance(parts, nn.ModuleDict) else {}


def factors_fingerprint(model: nn.Module) -> str | None:
    """The fingerprint of what a scaling rule set for a model, which its weights do not tell; None if there was none."""
    factors = {entry.name: entry.factors for entry in trainable_parameters(model)}
    if all(value == ScalingFactors() for value in factors.values()):
        return None
    return digest([(name, *(f"{float(x):.6g}" for x in astuple(value))) for name, value in factors.items()])


def parameter_groups(
    parameters: Iterable[NamedParameter],
    weight_decay: float,
    scalars: float = 1.0,
    rule: UpdateRule = "adam",
    epsilon: float | None = None,
    biases: float = 1.0,
    decay_in_gradient: bool = False,
) -> list[dict[str, Any]]:
    """Parameters of a model in groups for an optimizer of torch.

    Weights decay; biases, normalization, scales and coefficients do not. The `share` of a group is its factor on the
    learning rate: of a scaling rule that `mm.prepare` set, `scalars` for parameters that are one number and for the
    coefficients of skeletons, and `biases` for those of normalizations, which decay if that is not 1. Where a factor
    changes a rate, weight decay is divided by it, so that their product, by which parameters shrink, stays.

    Args:
        rule: how the optimizer moves a parameter.
        epsilon: Adam's, scaled with the gradient in each group; None for groups without.
        decay_in_gradient: whether an optimizer that is not proportional to the gradient adds weight decay to it, as
            torch's Adam does: a scaling rule then sizes it as the gradient.
    """
    groups: dict[tuple[bool, float, float, float], dict[str, Any]] = {}

    def group(decays: bool, share: float, size: float, decay: float) -> list[nn.Parameter]:
        scaled = {} if epsilon is None else {"eps": epsilon * size}
        entry = {"params": [], "weight_decay": decay, "share": share, **scaled}
        return groups.setdefault((decays, share, size, decay), entry)["params"]

    every = ((True, 1.0, 1.0, weight_decay), (False, 1.0, 1.0, 0.0))
    for key in every:  # every model has these two groups, and as its first
        group(*key)
    for entry in parameters:
        rate, size = entry.factors.rate(rule), 1.0 if epsilon is None else entry.factors.epsilon
        is_scaled_bias, by_role = biases != 1 and entry.is_normalization_bias, 1.0
        if is_scaled_bias:
            by_role = biases
        elif entry.is_coefficient or (entry.parameter.numel() == 1 and not entry.is_weight):
            by_role = scalars
        share, decay = rate * by_role, 0.0
        decays = (entry.is_weight or is_scaled_bias) and share > 0
        if decays:
            decay = weight_decay / (by_role / entry.factors.size_of_gradient if decay_in_gradient else share)
        group(decays, share, size, decay).append(entry.parameter)
    return [entry for key, entry in groups.items() if entry["params"] or key in every]


def hidden_matrices(model: nn.Module) -> set[nn.Parameter]:
    """The real weights between features: of every linear or convolutional layer but the first and the last.

    What reads an embedding is no first layer.
    """
    embeds = any(isinstance(module, nn.Embedding) for module in model.modules())
    inner = list(layers(model).values())[0 if embeds else 1 : -1]
    modules = {m for layer in inner for m in layer.modules()}
    return {
        entry.parameter
        for entry in trainable_parameters(model)
        if entry.owner in modules
        and entry.is_weight
        and not entry.parameter.is_complex()
        and not isinstance(entry.owner, nn.RNNBase | nn.RNNCellBase)
    }

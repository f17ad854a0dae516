"""One screen on a model: its algorithm and binding, its certificate, and what it would be without momentum."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from .._support.errors import WrongTypeError
from ..models import UnrolledNetwork
from ..networks import Skeleton, Unrolled, count_parameters, skeletons
from ..theory import Certificate, certify, identify


@dataclass(frozen=True)
class Explanation:
    """A model in words with its certificate, from `mm.explain`."""

    title: str
    lines: tuple[str, ...]
    certificate: Certificate

    def __str__(self) -> str:
        return "\n".join([self.title, *(f"  {line}" for line in self.lines), "", str(self.certificate)])


def explain(model: nn.Module) -> Explanation:
    """Explain a model of `mm.create_model`, a stage of `mm.unroll`, or a model that `mm.rewire` wired.

    The certificate is that of its longest stage (or run of blocks), with the values that learnable coefficients have
    now.

    Raises:
        TypeError: another kind of module.
    """
    runs = [skeleton for skeleton in skeletons(model) if skeleton.is_wired]
    if runs:
        return _explain_rewired(model, runs)
    if not isinstance(model, UnrolledNetwork | Unrolled):
        kind = type(model).__name__
        raise WrongTypeError(f"model is {kind}; expected one that mm.create_model, mm.unroll or mm.rewire made.")
    stages = _stages(model)
    meaning = {
        "residual": "residual binding: gradient(x) = -T(x), so gradient descent is x + T(x)",
        "operator": "operator binding: gradient(x) = x - T(x), so gradient descent is T(x)",
    }[model.binding]
    depths = ", ".join(str(len(stage.layers)) for stage in stages)
    transitions = len(model.layers) - sum(len(stage.layers) for stage in stages)
    changes = f" and {transitions} transitions that change the shape" if transitions else ""
    lines = [
        f"{count_parameters(model):,} parameters",
        f"runs {model.algorithm} in {len(stages)} stage{'s' if len(stages) > 1 else ''} of {depths} layers{changes}",
        meaning,
        *_coefficients(stages),
        *_without_momentum(model),
    ]
    title = f"{model.info.name}: {model.info.description}" if isinstance(model, UnrolledNetwork) else "a single stage"
    return Explanation(title, tuple(lines), certify_model(model))


def _explain_rewired(model: nn.Module, runs: list[Skeleton]) -> Explanation:
    longest = max(runs, key=lambda run: run.depth)
    lines = [f"{count_parameters(model):,} parameters"]
    lines += [f"{run.names[0]} ... {run.names[-1]}  ({run.depth} blocks) by {run.learned}" for run in runs]
    lines.append("operator binding: T is a block as it stands, so gradient descent is the model as it was")
    certificate = certify(longest.learned, longest.depth, "operator", block=longest.blocks[0])
    return Explanation(f"{type(model).__name__}, rewired", tuple(lines), certificate)


def certify_model(model: UnrolledNetwork | Unrolled) -> Certificate:
    """The certificate of a model's longest stage, with its blocks and the current values of its coefficients."""
    stage = max(_stages(model), key=lambda stage: len(stage.layers))
    block = getattr(stage.layers[0], "block", None)
    if isinstance(block, nn.ModuleDict):  # of several oracles the blocks are built alike
        block = next(iter(block.values()))
    sizes: dict[str, Any] = {}
    if isinstance(model, UnrolledNetwork) and model.info.takes_vectors:
        outputs = model.num_classes or model.num_features
        sizes = {"width": model.config["width"], "d_in": model.in_channels, "d_out": outputs}
    return certify(stage.learned(), len(stage.layers), stage.binding, block=block, **sizes)


def _stages(model: UnrolledNetwork | Unrolled) -> list[Unrolled]:
    return [model] if isinstance(model, Unrolled) else model.stages


def learned_coefficients(stages: list[Unrolled]) -> dict[str, list[list[float]]]:
    """The current values of each learnable coefficient, by stage and layer."""
    return {name: [stage.coefficients[name].detach().tolist() for stage in stages] for name in stages[0].coefficients}


def _coefficients(stages: list[Unrolled]) -> list[str]:
    return [
        f"{name} by layer: " + " | ".join(" ".join(f"{v:.3f}" for v in values) for values in by_stage)
        for name, by_stage in learned_coefficients(stages).items()
    ]


def _without_momentum(model: UnrolledNetwork | Unrolled) -> list[str]:
    algorithm = model.algorithm
    if "momentum" not in algorithm.coefficients():
        return []
    still = algorithm.rebind(momentum=0.0)
    known = identify(still).algorithm
    name = "an algorithm without a name here" if known is None else str(known)
    update = {"residual": "x + T(x), ResNet", "operator": "T(x), its blocks one after the other"}[model.binding]
    is_descent = type(known).__name__ == "GradientDescent"
    return [f"with momentum 0 it would be {name}" + (f": {update}" if is_descent else "")]

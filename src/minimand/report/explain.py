"""One screen on a model: its algorithm and binding, its certificate, and what it would be without momentum."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import nn

from .._support.errors import WrongTypeError
from ..algorithms import Algorithm, is_map
from ..models import UnrolledNetwork
from ..networks import Skeleton, Unrolled, count_parameters, skeletons
from ..networks.kinds import check_model
from ..theory import Certificate, certify, identify
from ..theory.splitting import STEPS, Splitting


@dataclass(frozen=True)
class Explanation:
    """A model in words with its certificate, from `mm.explain`."""

    title: str
    lines: tuple[str, ...]
    certificate: Certificate

    def __str__(self) -> str:
        return "\n".join([self.title, *(f"  {line}" for line in self.lines), "", str(self.certificate)])


def explain(model: nn.Module) -> Explanation:
    """Explain a module that runs an algorithm: of `mm.create_model`, `mm.unroll` or `mm.rewire`, or with such a part.

    The certificate is that of its longest stage (or run of blocks), with the values that learnable coefficients have
    now.

    Raises:
        TypeError: a module without an algorithm.
    """
    check_model(model)
    runs = skeletons(model)
    if not runs:
        kind = type(model).__name__
        raise WrongTypeError(
            f"model is {kind}, in which no algorithm runs; expected a model of mm.create_model, a stage of mm.unroll, "
            "a module that holds one, or one that mm.rewire wired."
        )
    if any(run.is_wired for run in runs):
        return _explain_rewired(model, runs)
    stages = [run.source for run in runs if isinstance(run.source, Unrolled)]
    layers = sum(run.depth for run in runs)
    # Of a model of our own all layers are known, of another one its stages.
    transitions = len(model.layers) - layers if isinstance(model, UnrolledNetwork) else 0
    lines = [
        f"{count_parameters(model):,} parameters",
        *_runs_in_words(runs, transitions),
        *dict.fromkeys(_MEANING[run.binding] for run in runs),
        *_coefficients(stages),
        *_without_momentum(max(runs, key=lambda run: run.depth)),
    ]
    title = f"{type(model).__name__}, which holds {len(runs)} stage{'s' if len(runs) > 1 else ''}"
    if isinstance(model, UnrolledNetwork):
        title = f"{model.info.name}: {model.info.description}"
    elif isinstance(model, Unrolled):
        title = "a single stage"
    return Explanation(title, tuple(lines), certify_model(model))


_MEANING = {
    "residual": "residual binding: gradient(x) = -T(x), so gradient descent is x + T(x)",
    "operator": "operator binding: gradient(x) = x - T(x), so gradient descent is T(x)",
}


def _runs_in_words(runs: list[Skeleton], transitions: int) -> list[str]:
    """A line for each algorithm that stages run, with their depths."""
    changes = f" and {transitions} transitions that change the shape" if transitions else ""
    depths: dict[str, list[int]] = {}
    for run in runs:
        depths.setdefault(str(run.algorithm), []).append(run.depth)
    return [
        f"runs {algorithm} in {len(of)} stage{'s' if len(of) > 1 else ''} of {', '.join(map(str, of))} layers{changes}"
        for algorithm, of in depths.items()
    ]


def _explain_rewired(model: nn.Module, runs: list[Skeleton]) -> Explanation:
    lines = [f"{count_parameters(model):,} parameters"]
    lines += [f"{run.names[0]} ... {run.names[-1]}  ({run.depth} {_parts(run)}) by {run.learned}" for run in runs]
    whole = runs[0].binding == "operator"
    bound = "operator binding: T is a block as it stands" if whole else "residual binding: T is a residual branch"
    lines.append(f"{bound}, so gradient descent is the model as it was")
    return Explanation(f"{type(model).__name__}, rewired", tuple(lines), certify_model(model))


def _parts(run: Skeleton) -> str:
    return "blocks" if run.binding == "operator" else "branches"


def certify_model(model: nn.Module) -> Certificate:
    """The certificate of a model's longest stage, with its blocks and the current values of its coefficients."""
    run = max(skeletons(model), key=lambda run: run.depth)
    sizes: dict[str, Any] = {}
    if isinstance(model, UnrolledNetwork) and model.info.takes_vectors:
        outputs = model.num_classes or model.num_features
        sizes = {"width": model.config["width"], "d_in": model.in_channels, "d_out": outputs}
    splitting = _splitting(model, run)
    steps = STEPS[splitting] if splitting else 1
    blocks = _blocks_of_a_layer(model, run, steps)
    return certify(run.learned, run.depth // steps, run.binding, block=blocks, splitting=splitting, **sizes)


def _blocks_of_a_layer(model: nn.Module, run: Skeleton, steps: int) -> Any:
    """The blocks that the steps of a layer ask: by oracle, in turns, or, of branches, the layer that they are in."""
    if run.is_wired and run.binding == "residual":
        first, second = (name.split(".") for name in run.names[:2])
        shared = [a for a, b in zip(first[:-1], second, strict=False) if a == b]
        return model.get_submodule(".".join(shared))
    if isinstance(run.blocks[0], nn.ModuleDict):
        return run.blocks[0]
    return run.blocks[: min(steps, 2)]  # the last step of a Strang splitting asks the attention of the first again


def _splitting(model: nn.Module, run: Skeleton) -> Splitting | None:
    """How the layers of a transformer are cut into the blocks of a stage, or into the branches that hooks wire."""
    if isinstance(model, UnrolledNetwork):
        if "splitting" not in model.config or sum(not is_map(oracle) for oracle in run.algorithm.oracles) > 1:
            return None  # either no transformer, or its attention and its map each answer an oracle of their own
        by_default: dict[int, Splitting] = {1: "whole", 2: "lie_trotter"}
        return model.config["splitting"] or by_default[run.depth // model.config["depth"]]
    return "lie_trotter" if run.is_wired and run.binding == "residual" else None


def learned_coefficients(stages: list[Unrolled]) -> dict[str, list[list[float]]]:
    """The current values of each learnable coefficient, by stage and layer; of channels their mean."""
    names = dict.fromkeys(name for stage in stages for name in stage.coefficients)
    return {
        name: [
            stage.coefficients[name].detach().view(-1, _channels(stage, name) or 1).mean(1).tolist()
            for stage in stages
            if name in stage.coefficients
        ]
        for name in names
    }


def _channels(stage: Unrolled, name: str) -> int | None:
    return stage.algorithm.learnable()[name].channels


def _coefficients(stages: list[Unrolled]) -> list[str]:
    by_channel = {name for stage in stages for name in stage.coefficients if _channels(stage, name)}
    return [
        f"{name} by layer{', the mean of its channels' if name in by_channel else ''}: "
        + " | ".join(" ".join(f"{v:.3f}" for v in values) for values in by_stage)
        for name, by_stage in learned_coefficients(stages).items()
    ]


def _without_momentum(run: Skeleton) -> list[str]:
    algorithm = run.algorithm
    if "momentum" not in algorithm.coefficients():
        return []
    without_momentum = _known_without_momentum(algorithm)
    name = "an algorithm without a name here" if without_momentum is None else str(without_momentum)
    update = {"residual": "x + T(x), ResNet", "operator": "T(x), its blocks one after the other"}[run.binding]
    is_descent = type(without_momentum).__name__ == "GradientDescent"
    return [f"with momentum 0 it would be {name}" + (f": {update}" if is_descent else "")]


def _known_without_momentum(algorithm: Algorithm) -> Algorithm | None:
    """The known algorithm that another one is with momentum 0."""
    try:
        return _identified(algorithm.rebind(momentum=0.0))
    except TypeError:  # an algorithm whose fields cannot be hashed
        return identify(algorithm.rebind(momentum=0.0)).algorithm


@lru_cache
def _identified(algorithm: Algorithm) -> Algorithm | None:
    return identify(algorithm).algorithm  # a third of a second, which a comparison would pay for every run

"""A run opened again: its trained model, data and recipe, as its folder tells them."""

import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from .._support.errors import WrongTypeError
from .._support.torch.environment import as_device
from ..algorithms import ALGORITHMS, Algorithm, as_algorithm, specification
from ..data import Data, as_data, list_data, load_data
from ..data.data import Arrays
from ..data.description import described
from ..models.named import references_of
from ..models.own import is_own, make_own, source_of
from ..models.registry import model_from_config
from ..networks import skeletons
from ..networks.cutting import repeated
from ..networks.cutting.chains import chains
from ..networks.fingerprint import model_fingerprint
from ..recipes import Recipe, from_config
from ..surgery import rewire
from ..training import CheckpointError, Evaluation, Method, Run, RunError, evaluate
from ..training.methods._registry import method_from_config
from ..training.runs.checkpoint import Checkpoint, load_weights
from .generate import generate_text


@dataclass(frozen=True)
class LoadedRun:
    """A run that `mm.load` opened: its model with the trained weights, and what it was trained with."""

    run: Run
    model: nn.Module
    method: Method
    recipe: Recipe
    loss: str | None
    """The name of the loss; None for what suits the task, or where `has_own_loss`."""
    seed: int
    inputs: Data
    """What the model takes and gives, without the samples: shape, classes, normalization."""
    step: int
    """The step of the checkpoint that the weights are from."""
    notes: tuple[str, ...]
    """What was wrong with newer checkpoints and with the configuration."""
    has_own_loss: bool
    loaded: dict[str, Any]
    """The arguments of `load_data` that give the data; without a name where Python code gave them."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the model's outputs; empty for a regression."""
        return self.inputs.classes

    @cached_property
    def data(self) -> Data:
        """The data of the run, read when first asked for.

        Raises RunError where Python code gave them, and what `load_data` raises where they are no longer there.
        """
        if "name" not in self.loaded:
            raise RunError(f"the data of {self.run.folder} came from Python code; pass data=.")
        return load_data(**self.loaded)

    def evaluate(self, data: Any = None) -> Evaluation:
        """Evaluate the model on the test samples of the run's data, or of others of the same shape and classes.

        Others are normalized as the run's were. Raises MinimandError for data of another kind, and RunError for a loss
        that Python code gave.
        """
        if self.has_own_loss:
            raise RunError(f"the loss of {self.run.folder} came from Python code; pass it to mm.evaluate.")
        chosen = self.data if data is None else self.fitting(as_data(data))
        recipe = self.recipe
        return evaluate(self.model, chosen, loss=self.loss, precision=recipe.precision, test_views=recipe.test_views)

    def generate(self, prompt: str, **settings: Any) -> str:
        """A prompt and the text that the run's language model draws after it; `tokens`, `temperature`, `top_k`, `seed`.

        The settings are those of `minimand.experiments.generate.generate_text`. Raises RunError for a run that was not
        trained on text, and MinimandError for a prompt or a setting that cannot be used.
        """
        if self.inputs.text is None:
            raise RunError(f"{self.run.folder} is no run of a language model; `predict` says what it makes of samples.")
        return generate_text(self.model, self.inputs.text, self.inputs.shape[0], prompt, **settings)

    def fitting(self, data: Data) -> Data:
        """Other data, normalized as the run's; raises RunError unless the model can read and tell them apart."""
        own = self.inputs
        if own.text is not None:
            if own.text.fits(data.text) and data.shape[0] <= own.shape[0]:
                return data
            theirs = "is no text" if data.text is None else f"has windows of {data.shape[0]} tokens ({_tokens(data)})"
            raise RunError(
                f"{self.run.folder} was trained on windows of {own.shape[0]} tokens ({_tokens(own)}), and {data.name} "
                f"{theirs}; expected mm.load_data(..., tokens={str(self.run.folder)!r}, context={own.shape[0]})."
            )
        for what, mine, theirs in (
            ("samples of the shape", own.shape, data.shape),
            ("the task", own.task, data.task),
            ("the number of outputs", own.num_outputs, data.num_outputs),
        ):
            if mine != theirs:
                raise RunError(
                    f"{self.run.folder} was trained with {what} {mine}, and {data.name} has {theirs}; expected that."
                )
        numbers = tuple(map(str, range(own.num_outputs)))
        if own.classes != data.classes and numbers not in (own.classes, data.classes):
            raise RunError(
                f"{self.run.folder} was trained with the classes {', '.join(own.classes)}, and {data.name} has "
                f"{', '.join(data.classes)}; expected the same, in the same order."
            )
        return replace(data, mean=own.mean, std=own.std)

    def __repr__(self) -> str:
        name = type(self.model).__name__
        outputs = "tokens" if self.inputs.text else "classes"
        return f"<run {self.run.folder}: {name}, step {self.step:,}, {len(self.classes) or 'no'} {outputs}>"


def load(
    run: str | Path,
    *,
    model: Any = None,
    algorithm: Algorithm | str | None = None,
    data: Any = None,
    device: str | torch.device | None = None,
) -> LoadedRun:
    """Open the run in a folder: its model with the weights of the last checkpoint, the best or averaged ones if kept.

    The data are read when they are first asked for. A warning tells of newer checkpoints that cannot be read.

    Args:
        run: the folder of a run.
        model: for a model that is not a named one: the module, which gets the weights; a class or function that makes
            it; or "path/to/file.py:Net". A folder never decides what code runs.
        algorithm: for a named model with an algorithm of one's own: the algorithm, or "path/to/file.py:MyMethod".
        data: for data that Python code gave, as for `mm.fit`.
        device: by default a GPU where there is one, else the CPU.

    Raises:
        RunError: the folder is no run, or `model` or `algorithm` is not the run's. CheckpointError: no checkpoint that
        can be read. MinimandError: the model or the algorithm has to be given.
    """
    opened = load_run(run, model, algorithm)
    for note in opened.notes:
        warnings.warn(note, stacklevel=2)
    opened.model.to(as_device(device))
    if data is not None:
        opened.__dict__["data"] = opened.fitting(as_data(data))
    return opened


def load_run(run: str | Path, model: Any = None, algorithm: Algorithm | str | None = None) -> LoadedRun:
    """The run that `load` opens, on the CPU; what was wrong with newer checkpoints is only noted."""
    if not isinstance(run, str | Path):
        raise WrongTypeError(f"run is {type(run).__name__}; expected the folder of a run.")
    folder = Run.existing(run)
    config = folder.config()
    try:
        stored, prints, loaded = dict(config["model"]), dict(config["fingerprints"]), dict(config["data"])
        recipe, loss, seed = from_config(config["recipe"]), config["loss"], config["seed"]
        tokenizer = folder.tokenizer() if "text" in config["inputs"] else None
        method = method_from_config(config["method"])
        inputs = described(config["inputs"], str(loaded.get("name", "")), tokenizer)
        wired = [str(text) for text in config.get("rewired", [])]
        memories = {(choice["memory"], choice["exact"]) for choice in config.get("rewired_memory", [])} or {
            ("store", None)
        }
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"{run}/config.yaml is not a run's configuration ({error}).") from None
    if "class" in stored:
        built = _rewired(_own(run, stored, inputs, model, algorithm), wired, memories, inputs)
    else:
        built = _named(run, stored, model, algorithm)
    if model_fingerprint(built) != prints.get("algorithm"):
        what = stored.get("algorithm", stored.get("model", stored.get("class")))
        rewired = f"; its blocks were rewired: {'; '.join(wired)}" if wired else ""
        raise RunError(f"the code of {what} is not what it was when the run in {run} began{rewired}.")
    checkpoint, problems = folder.last_checkpoint()
    if checkpoint is None:
        raise CheckpointError(f"{folder.folder} has no checkpoint yet.")
    _load_trained(built, method, recipe, inputs, checkpoint, str(folder.checkpoints))
    own_loss = "loss" in prints
    step, notes = checkpoint.state["step"], (*folder.notes, *problems)
    known_loss = None if own_loss else loss
    return LoadedRun(folder, built, method, recipe, known_loss, seed, inputs, step, notes, own_loss, loaded)


def _named(run: str | Path, stored: dict[str, Any], model: Any, algorithm: Algorithm | str | None) -> nn.Module:
    """The named model of a run, with new weights."""
    if model is not None:
        raise RunError(f"{run} is a run of the named model {stored['model']!r}; expected no other model.")
    if algorithm is not None:
        chosen, runs = as_algorithm(algorithm), stored.get("algorithm", stored["model"])
        if specification(chosen) != runs:
            raise RunError(f"algorithm is {specification(chosen)!r}, but {run} is a run of {runs!r}.")
        stored["algorithm"] = chosen
    return model_from_config(stored)


def _own(
    run: str | Path, stored: dict[str, Any], inputs: Data, model: Any, algorithm: Algorithm | str | None
) -> nn.Module:
    """A model of one's own, named again; raises RunError unless it is of the class that the run trained."""
    name, source = stored["class"], stored.get("source")
    if model is None:
        came = f"{source.partition(':')[0]}.py" if source else "Python code"
        remedy = f"--model path/to/{source.replace(':', '.py:', 1)}" if source else f"model={name}(...)"
        raise RunError(
            f"the model of {run} is your own {name} from {came}, and a folder never decides what code runs; give it "
            f"again: {remedy}."
        )
    if not is_own(model):
        raise RunError(f"model is {model!r}, but {run} is a run of your own {name}; expected that one.")
    built = make_own(model, inputs.shape, inputs.num_outputs, algorithm, inputs.is_text)
    if type(built).__qualname__ != name:
        raise RunError(f"model is a {type(built).__qualname__}, but {run} is a run of {name}; expected that one.")
    if source and source_of(built) not in (None, source):
        raise RunError(f"model is {source_of(built)!r}, but {run} is a run of {source!r}; expected that one.")
    return built


def _rewired(model: nn.Module, wired: list[str], memories: set[tuple[Any, Any]], inputs: Data) -> nn.Module:
    """A model of one's own, rewired as the run's was, if all of it by one registered algorithm and with one memory."""
    algorithms = {text.rpartition(": ")[2] for text in wired}
    if len(algorithms) != 1 or len(memories) != 1 or any(skeleton.is_wired for skeleton in skeletons(model)):
        return model
    ((memory, exact),) = memories
    keeping = {"memory": memory, "exact": exact}
    algorithm = as_algorithm(algorithms.pop(), allow_files=False)
    names = {name for text in wired for name in text.rpartition(": ")[0].split()}
    blocks = [block for run in repeated.runs(model) for block in run]
    used = [block for block in blocks if any(f"{name}.".startswith(f"{block}.") for name in names)]
    if all(any(f"{name}.".startswith(f"{block}.") for block in used) for name in names):
        at = "blocks" if names <= set(blocks) else "branches"
        return rewire(model, algorithm, at=at, exclude=[block for block in blocks if block not in used], **keeping)
    example = replace(inputs, test=_blank(inputs)).example()
    in_a_row = [block for run in chains(model, example).runs for block in run]
    if not names <= set(in_a_row):
        return model
    unused = [block for block in in_a_row if block not in names]
    return rewire(model, algorithm, example=example, exclude=unused, **keeping)


def _load_trained(
    model: nn.Module, method: Method, recipe: Recipe, inputs: Data, checkpoint: Checkpoint, where: str
) -> None:
    """Give a model the weights of a checkpoint: of what was trained last, the best or averaged ones if there are."""
    blank = replace(inputs, test=_blank(inputs))
    plan = method.plan(model, blank.example, inputs.num_outputs, recipe.epochs)
    load_weights(plan.saved, checkpoint.tensors["model"], where)
    stopping = checkpoint.state["hooks"].get("early_stopping") or {}
    section = "best" if stopping.get("best_loss") is not None else "average"
    if section in checkpoint.tensors:
        averages = checkpoint.tensors[section]
        weights = {name.removeprefix("module."): tensor for name, tensor in averages.items() if "module." in name}
        load_weights(plan.problems[checkpoint.state["problem"]].module, weights, where)


def _tokens(data: Data) -> str:
    return f"{data.num_outputs:,} of {data.text.tokenizer.name}" if data.text else ""


def _blank(inputs: Data) -> Arrays:
    """A few samples of zeros, of which a method sees the shapes."""
    if inputs.text is not None:
        return Arrays(torch.zeros(4, *inputs.shape, dtype=torch.long), torch.zeros(4, *inputs.shape, dtype=torch.long))
    targets = torch.zeros(4, dtype=torch.long) if inputs.task == "classification" else torch.zeros(4, inputs.outputs)
    return Arrays(torch.zeros(4, *inputs.shape), targets)


def used_by(run: str | Path) -> list[Any]:
    """The model, algorithm, method and data of a run as things to cite, but for an algorithm of one's own."""
    config = Run.existing(run).config()
    model, data, method = (config.get(part) for part in ("model", "data", "method"))
    things: list[Any] = []
    if isinstance(model, dict) and "model" in model:
        things.append(model["model"])
        name = str(model.get("algorithm")).partition("(")[0]
        if name in ALGORITHMS:
            things.append(name)
        things.append(SimpleNamespace(references=references_of(model)))
    with suppress(ValueError):  # a method of one's own
        things.append(method_from_config(method))
    with suppress(ValueError):  # an optimizer of one's own
        things.append(from_config(config["recipe"]))
    if isinstance(data, dict) and data.get("name") in list_data():
        things.append(data["name"])
    return things

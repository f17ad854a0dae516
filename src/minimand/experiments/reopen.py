"""A run opened again: its model, data and recipe, as its folder tells them."""

from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from ..algorithms import ALGORITHMS, Algorithm, as_algorithm, specification
from ..data import Data, list_data, load_data
from ..layers.stochastic_depth import DropPath
from ..models import NamedModel
from ..models.registry import model_from_config
from ..networks.fingerprint import model_fingerprint
from ..recipes import Recipe, from_config
from ..training import CheckpointError, Method, Run, RunError
from ..training.methods._registry import method_from_config
from ..training.runs.checkpoint import load_weights


@dataclass(frozen=True)
class Reopened:
    """The model, data and settings of a run; the model has its first weights until `load_trained`."""

    run: Run
    model: NamedModel
    data: Data
    method: Method
    recipe: Recipe
    loss: str | None
    seed: int

    def load_trained(self) -> tuple[int, list[str]]:
        """Give the model the weights of the last checkpoint, averaged ones if there are.

        Returns the step of the checkpoint, and what was wrong with newer ones and with the configuration; raises
        CheckpointError where none can be read, or it is of another model.
        """
        checkpoint, problems = self.run.last_checkpoint()
        if checkpoint is None:
            raise CheckpointError(f"{self.run.folder} has no checkpoint yet.")
        step, where = checkpoint.state["step"], str(self.run.checkpoints)
        plan = self.method.plan(self.model, self.data.example, self.data.num_outputs, self.recipe.epochs)
        load_weights(plan.saved, checkpoint.tensors["model"], where)
        if "average" in checkpoint.tensors:  # of what was trained last
            average = checkpoint.tensors["average"]
            averages = {k.removeprefix("module."): v for k, v in average.items() if "module." in k}
            steps = self.data.train.count(self.recipe.samples_per_update, shuffled=True)
            ends = list(accumulate(steps * problem.epochs for problem in plan.problems))
            load_weights(plan.problems[bisect_left(ends, step)].module, averages, where)
        return step, [*self.run.notes, *problems]


def reopen(run: str | Path, algorithm: Algorithm | str | None = None) -> Reopened:
    """Open the run in a folder.

    The algorithm is needed if the run's is not a built-in one: a folder never decides what code runs.

    Raises:
        RunError: the folder is no run, or one of a model or of data that Python code gave, or `algorithm` is not the
            run's. MinimandError: the algorithm is needed.
    """
    folder = Run.existing(run)
    config = folder.config()
    try:
        model, data, stored = dict(config["model"]), dict(config["data"]), dict(config["fingerprints"])
        recipe, loss, seed = from_config(config["recipe"]), config["loss"], config["seed"]
        method = method_from_config(config["method"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run}/config.yaml is not a run's configuration ({error}).") from None
    if "model" not in model or "name" not in data or "loss" in stored:
        what = "model" if "model" not in model else "data" if "name" not in data else "loss"
        raise RunError(f"the {what} of {run} came from Python code; call mm.fit there again to go on.")
    runs = model.get("algorithm", model["model"])
    if algorithm is not None:
        chosen = as_algorithm(algorithm)
        if specification(chosen) != runs:
            raise RunError(f"algorithm is {specification(chosen)!r}, but {run} is a run of {runs!r}.")
        model["algorithm"] = chosen
    built = model_from_config(model)
    if model_fingerprint(built) != stored.get("algorithm"):
        raise RunError(f"the code of {runs} is not what it was when the run in {run} began.")
    return Reopened(folder, built, load_data(**data), method, recipe, loss, seed)


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
        if model.get("drop_path"):
            things.append(DropPath(model["drop_path"]))
    with suppress(ValueError):  # a method of one's own
        things.append(method_from_config(method))
    if isinstance(data, dict) and data.get("name") in list_data():
        things.append(data["name"])
    return things

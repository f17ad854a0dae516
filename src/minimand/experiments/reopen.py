"""A run opened again: its model, data and recipe, from what its folder says."""

from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from ..algorithms._algorithm import Algorithm
from ..algorithms._registry import as_algorithm, builtin, specification
from ..data.data import Data
from ..data.registry import list_data, load_data
from ..layers.stochastic_depth import DropPath
from ..models.network import UnrolledNetwork
from ..recipes.recipe import Recipe, from_config
from ..training.methods._registry import method_from_config
from ..training.methods.method import Method
from ..training.runs import fingerprint
from ..training.runs.checkpoint import CheckpointError, load_weights
from ..training.runs.run import Run, RunError


@dataclass(frozen=True)
class Reopened:
    """What a run was started with; the model has its first weights until `load_trained`."""

    run: Run
    model: UnrolledNetwork
    data: Data
    method: Method
    recipe: Recipe
    loss: str | None
    seed: int

    def load_trained(self) -> tuple[int, list[str]]:
        """Give the model the weights of the last checkpoint, averaged ones if there are.

        Returns:
            Its step, and what was wrong with newer ones.

        Raises:
            CheckpointError: there is none, or none that can be read, or it is of another model.
        """
        found, problems = self.run.last_checkpoint()
        if found is None:
            raise CheckpointError(f"{self.run.folder} has no checkpoint yet.")
        step, where = found.state["step"], str(self.run.checkpoints)
        plan = self.method.plan(self.model, self.data.example, self.data.num_outputs, self.recipe.epochs)
        load_weights(plan.saved, found.tensors["model"], where)
        if "average" in found.tensors:  # of what was trained last
            averages = {k.removeprefix("module."): v for k, v in found.tensors["average"].items() if "module." in k}
            steps = self.data.train.count(self.recipe.samples_per_update, shuffled=True)
            ends = list(accumulate(steps * problem.epochs for problem in plan.problems))
            load_weights(plan.problems[bisect_left(ends, step)].module, averages, where)
        return step, problems


def reopen(folder: str | Path, algorithm: Algorithm | str | None = None) -> Reopened:
    """Open the run in a folder.

    Args:
        folder: of the run.
        algorithm: needed if the run's is not one of the built-in ones: a folder never decides what code runs.

    Raises:
        RunError: the folder is no run, or one of a model or of data that Python code gave, or `algorithm` is not the
            run's. ValueError: the algorithm is needed.
    """
    run = Run.existing(folder)
    config = run.config()
    try:
        model, data, stored = dict(config["model"]), dict(config["data"]), dict(config["fingerprints"])
        recipe, loss, seed = from_config(config["recipe"]), config["loss"], config["seed"]
        method = method_from_config(config["method"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder}/config.yaml is not a run's configuration ({error}).") from None
    if "model" not in model or "name" not in data or "loss" in stored:
        what = "model" if "model" not in model else "data" if "name" not in data else "loss"
        raise RunError(f"the {what} of {folder} came from Python code; call mm.fit there again to go on.")
    if algorithm is not None:
        given = as_algorithm(algorithm)
        if specification(given) != model["algorithm"]:
            raise RunError(f"algorithm is {specification(given)!r}, but {folder} is a run of {model['algorithm']!r}.")
        model["algorithm"] = given
    made = UnrolledNetwork(**model)
    if fingerprint.of_model(made) != stored.get("algorithm"):
        raise RunError(f"the code of {model['algorithm']} is not what it was when the run in {folder} began.")
    return Reopened(run, made, load_data(**data), method, recipe, loss, seed)


def used_by(folder: str | Path) -> list[Any]:
    """What a run used, as things to cite; an algorithm of one's own is left out.

    Raises:
        RunError: the folder is no run.
    """
    config = Run.existing(folder).config()
    model, data, method = (config.get(part) for part in ("model", "data", "method"))
    found: list[Any] = []
    if isinstance(model, dict) and "model" in model:
        found.append(model["model"])
        name = str(model.get("algorithm")).partition("(")[0]
        if name in builtin:
            found.append(name)
        if model.get("drop_path"):
            found.append(DropPath(model["drop_path"]))
    with suppress(ValueError):  # one of the user's own
        found.append(method_from_config(method))
    if isinstance(data, dict) and data.get("name") in list_data():
        found.append(data["name"])
    return found

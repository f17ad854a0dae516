"""A run opened again: its model, data and recipe, from what its folder says."""

from dataclasses import dataclass
from typing import Any

from .algorithms import Algorithm
from .data import Data, load_data
from .models import UnrolledNetwork, create_model
from .training import Recipe, Run, RunError
from .training.checkpoint import CheckpointError, load_weights
from .training.recipe import from_config


@dataclass(frozen=True)
class Reopened:
    """What a run was started with; the model has its first weights until `load_trained`."""

    run: Run
    model: UnrolledNetwork
    data: Data
    recipe: Recipe
    loss: str | None
    seed: int

    def load_trained(self) -> int:
        """Give the model the weights of the last checkpoint, averaged ones if there are; returns its step.

        Raises:
            CheckpointError: there is none, or none that can be read, or it is of another model.
        """
        found, _ = self.run.last_checkpoint()
        if found is None:
            raise CheckpointError(f"{self.run.folder} has no checkpoint yet.")
        weights = found.tensors["model"]
        if "average" in found.tensors:
            weights = {k.removeprefix("module."): v for k, v in found.tensors["average"].items() if "module." in k}
        load_weights(self.model, weights, str(self.run.checkpoints))
        return found.state["step"]


def reopen(folder: str, algorithm: Algorithm | str | None = None) -> Reopened:
    """Open the run in a folder.

    Args:
        folder: of the run.
        algorithm: needed if the run's is not one of the built-in ones: a folder never decides what code runs.

    Raises:
        RunError: the folder is no run, or one of a model or of data that Python code gave.
    """
    run = Run.existing(folder)
    config = run.config()
    try:
        model, data = dict(config["model"]), dict(config["data"])
        recipe, loss, seed = from_config(config["recipe"]), config["loss"], config["seed"]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder}/config.yaml is not a run's configuration ({error}).") from None
    if "model" not in model or "name" not in data:
        what = "model" if "model" not in model else "data"
        raise RunError(f"the {what} of {folder} came from Python code; call mm.fit there again to go on.")
    if algorithm is not None:
        model["algorithm"] = algorithm
    return Reopened(run, _create(model), load_data(**data), recipe, loss, seed)


def _create(model: dict[str, Any]) -> UnrolledNetwork:
    return create_model(model.pop("model"), **model)

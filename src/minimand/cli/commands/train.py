"""`minimand train`: train a network, evaluate it, write a report."""

import shlex
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from ..._support.errors import MisuseError
from ..._support.tables import make_table
from ..configuration import with_config
from ..options import Parallel, Text, TrainingOptions, Whole, resumable
from ..shared import adapt_recipe, check_options, load_data, merge_options, progress
from ._registry import command


@command("train")
class Train(TrainingOptions):
    """Train a network, evaluate it and write a report. An existing run is resumed."""

    takes: ClassVar[tuple[str, ...]] = ("methods", "algorithms", "schemes", "normalizations", "models", "data")
    algorithm: Text = None
    """A name, with coefficients if need be, as in "heavy_ball(momentum=0.9)"; or path/to/file.py:MyMethod. By
    default what the named model is known for, and heavy_ball where none is named."""
    method: Text = None
    """How layers learn, with options if need be, as in "layerwise(hidden_layers=2)"; backpropagation by default."""
    scheme: Text = None
    """How the first weights are drawn, as in "kaiming" or "critical(q=0.5)"; by default every layer draws its own."""
    weight_bits: Whole = None
    """Bits of the weights of a model whose activations are steps, as in --model 'mlp(activation="sign")': 1, 2, 4 or 8;
    by default real weights."""
    run: Text = None
    """The run's folder; by default a new one in runs/."""
    seed: Whole = None
    """The seed of the first weights, the order of the samples and every random choice; 0 by default."""
    checkpoint_every: float = 60.0
    """Seconds between checkpoints."""
    diagnose: bool = False
    """Diagnose the model as it begins, and stop a run that cannot learn."""
    parallel: Parallel = None
    """Under torchrun, how its processes share each batch: ddp, the default, or fsdp, which shards the weights too."""

    def __call__(self, console: Console) -> None:
        from ..._support.environment import as_device
        from ...algorithms import as_algorithm
        from ...models.registry import default_model
        from ...recipes.recipe import default_recipe, from_config
        from ...training.distributed.processes import broadcast_object, is_main
        from ...training.fit import check_seed, fit
        from ...training.methods._registry import as_method
        from ...training.runs.run import Run

        console = console if is_main() else Console(quiet=True)
        command, recipe_config = with_config(self)
        folder, options = command._begun()
        run = Run(folder, options)
        check_seed(options["seed"])
        check_options(options)
        method = as_method(options["method"] or "backpropagation")
        device = as_device(self.device)
        named = options["algorithm"] or (None if options["model"] else "heavy_ball")
        algorithm = named and as_algorithm(named)
        data = load_data(options, console, self.quiet)
        name = options["model"] or default_model(data.shape)
        model = _first_model(name, options, algorithm, data)
        config = recipe_config if run.is_new else run.config()["recipe"]
        recipe = default_recipe(data, model) if config is None else from_config(config)
        with resumable(f"{_command_again(folder, named, name)} goes on from the last checkpoint"):
            result = fit(
                model,
                data,
                method=method,
                recipe=adapt_recipe(broadcast_object(recipe), options),
                run=run,
                seed=options["seed"],
                device=device,
                callbacks=progress(console, self.quiet),
                checkpoint_every=self.checkpoint_every,
                diagnose=self.diagnose,
                parallel=self.parallel,
                progress=False,
            )
        console.print(make_table(["", ""], _result_rows(result, str(getattr(model, "algorithm", "none")), name)))
        console.print(f"report: {run.report}")

    def _begun(self) -> tuple[Path, dict[str, Any]]:
        """The folder of the run, and the options that decide it, in every process alike."""
        from ...trainability.initialization.scheme import read_scheme
        from ...training.distributed.processes import broadcast_object, check_same
        from ...training.runs.run import Run

        check_same(lambda: {f"--{name.replace('_', '-')}": value for name, value in vars(self).items()})
        folder = Path(self.run) if self.run else _new_folder()
        earlier = Run(folder).command()
        if earlier and self.scheme and self.scheme != earlier.get("scheme"):
            raise MisuseError(
                f"--scheme {self.scheme} is not what {folder} began with ({earlier.get('scheme') or 'none'}); leave it "
                "out, or begin another --run."
            )
        if self.scheme:
            read_scheme(self.scheme)
        return broadcast_object((folder, merge_options(self, earlier)))


def _first_model(name: str, options: dict[str, Any], algorithm: Any, data: Any) -> Any:
    """The model with its first weights, which the seed and the scheme decide."""
    import torch

    from ...data.data import as_prepared
    from ...models.registry import create_for
    from ...trainability.initialization.initialize import initialize

    torch.manual_seed(options["seed"])
    model = create_for(name, data.shape, data.num_outputs, algorithm, options["binding"], options["weight_bits"])
    if options["scheme"]:
        x, y = next(iter(as_prepared(data, data.train, torch.device("cpu")).batches(128)))
        initialize(model, options["scheme"], batch=x, target=y, loss="cross_entropy")
    return model


def _command_again(folder: Path, algorithm: str | None, model: str) -> str:
    """The command that goes on with the run, with the files of one's own that it needs."""
    from ...training.distributed.processes import world_size

    own = [
        word for pair in (("--algorithm", algorithm), ("--model", model)) if ".py:" in (pair[1] or "") for word in pair
    ]
    ranks = ["torchrun", "--nproc-per-node", str(world_size()), "-m", "--"] if world_size() > 1 else []
    return shlex.join([*ranks, "minimand", "train", "--run", str(folder), *map(str, own)])


def _new_folder() -> Path:
    """The first of runs/1, runs/2 ... that is free."""
    return next(folder for folder in (Path(f"runs/{number}") for number in count(1)) if not folder.exists())


def _result_rows(result: Any, algorithm: str, model: str) -> list[list[str]]:
    loss = "no test samples" if result.test_loss is None else f"{result.test_loss:.4f}"
    rows = [["algorithm", algorithm], ["model", model], ["test loss", loss]]
    if result.test_accuracy is not None:
        rows.append(["test accuracy", f"{100 * result.test_accuracy:.2f} %"])
    if result.ensemble_evaluation and result.ensemble_evaluation.accuracy is not None:
        rows.append(["all classifiers together", f"{100 * result.ensemble_evaluation.accuracy:.2f} %"])
    seconds = sum(record["seconds"] for record in result.history)
    return [*rows, ["epochs", str(len(result.history))], ["training", f"{seconds:.0f} s"]]

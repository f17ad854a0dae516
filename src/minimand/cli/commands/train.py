"""`minimand train`: train a network, evaluate it, write a report."""

import shlex
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from ..._support.errors import MisuseError
from ..._support.tables import make_table
from ..configuration import with_config
from ..options import Parallel, Text, TrainingOptions, Whole, resumable
from ..shared import (
    NOT_KEPT,
    adapt_recipe,
    check_options,
    load_data,
    merge_options,
    named_recipe,
    progress,
    reopen_trained,
)
from ._registry import command


@command("train")
class Train(TrainingOptions):
    """Train a network, evaluate it and write a report. An existing run is resumed."""

    takes: ClassVar[tuple[str, ...]] = (
        "methods",
        "algorithms",
        "schemes",
        "normalizations",
        "models",
        "data",
        "recipes",
    )
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
    """The seconds between two checkpoints of a run; 0 for one after each step."""
    diagnose: bool = False
    """Diagnose the model as it begins, and stop a run that cannot learn."""
    profile: bool = False
    """Measure where the time goes, and print it as a table: data, augmentation, forward, backward, optimizer ..."""
    parallel: Parallel = None
    """Under torchrun, how its processes share each batch: ddp, the default, or fsdp, which shards the weights too."""

    def __call__(self, console: Console) -> None:
        from ..._support.torch.environment import as_device
        from ...algorithms import as_algorithm
        from ...models.registry import default_model
        from ...recipes import default_recipe, from_config
        from ...training.distributed.processes import broadcast_object, is_main
        from ...training.fit import check_seed, fit
        from ...training.methods._registry import as_method
        from ...training.runs.run import Run

        console = console if is_main() else Console(quiet=True)
        command, recipe_config = with_config(self)
        folder, options = command._begun()
        if options is None:
            command._go_on_with(folder, console)
            return
        run = Run(folder, options)
        check_seed(options["seed"])
        check_options(options)
        method = as_method(options["method"] or "backpropagation")
        device = as_device(self.device)
        named = options["algorithm"] or (None if options["model"] else "heavy_ball")
        algorithm = named and as_algorithm(named)
        data = load_data(options, console, self.quiet)
        name = options["model"] or default_model(data.shape, data.is_text)
        model = _first_model(name, options, algorithm, data)
        config = recipe_config if run.is_new else run.config()["recipe"]
        recipe = named_recipe({**options, "recipe": command.recipe}) or (
            default_recipe(data, model) if config is None else from_config(config)
        )
        if not self.quiet:
            console.print(f"run: {folder}, {'new' if run.is_new else 'begun before'}", soft_wrap=True)
        with resumable(f"{_command_again(folder, named, name)} goes on from the last checkpoint"):
            result = fit(
                model,
                data,
                method=method,
                recipe=adapt_recipe(broadcast_object(recipe), options),
                run=run,
                seed=options["seed"],
                device=device,
                **command._how(console),
            )
        _show(result, name, console)

    def _how(self, console: Console) -> dict[str, Any]:
        """The arguments of `fit` that say how it trains, not what it computes."""
        names = ("checkpoint_every", "diagnose", "parallel", "profile")
        own = {name: getattr(self, name) for name in names}
        return {"callbacks": progress(console, self.quiet), "progress": False, **own}

    def _go_on_with(self, folder: Path, console: Console) -> None:
        """Go on with a run that Python code began, of a model and data that have names."""
        from ..._support.torch.environment import as_device
        from ...training.fit import fit

        opened = reopen_trained(str(folder), self.algorithm, console)
        if opened.has_own_loss or "name" not in opened.loaded:
            what = "loss" if opened.has_own_loss else "data"
            raise MisuseError(f"the {what} of {folder} came from Python code; call mm.fit there again to go on.")
        with resumable(f"{_command_again(folder, self.algorithm, '')} goes on from the last checkpoint"):
            result = fit(
                opened.model,
                opened.data,
                method=opened.method,
                recipe=opened.recipe,
                loss=opened.loss,
                run=opened.run,
                seed=opened.seed,
                device=as_device(self.device),
                **self._how(console),
            )
        _show(result, str(folder), console)

    def _begun(self) -> tuple[Path, dict[str, Any] | None]:
        """The folder of the run, and the options that decide it, in every process alike.

        The options are None where nothing but a run is named, and Python code began it.
        """
        from ...trainability.initialization.scheme import read_scheme
        from ...training.distributed.processes import broadcast_object, check_same
        from ...training.runs.run import Run, RunError

        check_same(lambda: {f"--{name.replace('_', '-')}": value for name, value in vars(self).items()})
        folder = Path(self.run) if self.run else _new_folder()
        earlier, is_new = Run(folder).command(), Run(folder).is_new
        if self.run and not self._says_what():
            if is_new:
                raise RunError(
                    f"there is no run in {str(folder)!r} to go on with{_nearest_run(folder)} To begin one there, say "
                    "what it trains: --data, --model, --algorithm, --method ..."
                )
            if not earlier:
                return broadcast_object((folder, None))
        if not is_new and not earlier and self.data is None:
            raise MisuseError(
                f"the run {str(folder)!r} was begun by Python code; expected --run alone, or all of its settings too."
            )
        if earlier and self.scheme and self.scheme != earlier.get("scheme"):
            raise MisuseError(
                f"--scheme {self.scheme} is not what {folder} began with ({earlier.get('scheme') or 'none'}); leave it "
                "out, or begin another --run."
            )
        if self.scheme:
            read_scheme(self.scheme)
        return broadcast_object((folder, merge_options(self, earlier)))

    def _says_what(self) -> bool:
        """Whether an option says what is trained, not only where and how."""
        values = {name: value for name, value in vars(self).items() if name not in NOT_KEPT}
        return any(value is not None and value is not False for value in values.values())


def _nearest_run(folder: Path) -> str:
    """The run beside a folder whose name is most like its own, as the end of a sentence."""
    siblings = folder.parent.glob("*/config.yaml") if folder.parent.is_dir() else ()
    names = get_close_matches(folder.name, [path.parent.name for path in siblings], 1, 0.5)
    return f"; did you mean {str(folder.parent / names[0])!r}?" if names else "."


def _first_model(name: str, options: dict[str, Any], algorithm: Any, data: Any) -> Any:
    """The model with its first weights, which the seed and the scheme decide."""
    import torch

    from ...data.data import as_prepared
    from ...models.registry import model_for
    from ...trainability.initialization.initialize import initialize

    torch.manual_seed(options["seed"])
    model = model_for(name, data, algorithm, options["binding"], options["weight_bits"])
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


def _show(result: Any, name: str, console: Console) -> None:
    rows = _result_rows(result, str(getattr(result.model, "algorithm", "none")), name)
    console.print(make_table(["", ""], rows))
    if result.profile is not None:
        console.print(f"\n{result.profile}\n", markup=False, highlight=False)
    console.print(f"report: {result.run.report}")


def _result_rows(result: Any, algorithm: str, model: str) -> list[list[str]]:
    loss = "no test samples" if result.test_loss is None else f"{result.test_loss:.4f}"
    rows = [["algorithm", algorithm], ["model", model], ["test loss", loss]]
    if result.test_accuracy is not None:
        rows.append(["test accuracy", f"{100 * result.test_accuracy:.2f} %"])
    if result.ensemble_evaluation and result.ensemble_evaluation.accuracy is not None:
        rows.append(["all classifiers together", f"{100 * result.ensemble_evaluation.accuracy:.2f} %"])
    seconds = sum(record["seconds"] for record in result.history)
    return [*rows, ["epochs", str(len(result.history))], ["training", f"{seconds:.0f} s"]]

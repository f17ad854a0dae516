"""Algorithms side by side: same data, same blocks, several seeds."""

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..._support.checks import check_number
from ..._support.errors import MinimandError, WrongTypeError
from ..._support.files import check_holds, write_whole
from ..._support.names.calls import file_name
from ..._support.torch.environment import as_device
from ...algorithms import Algorithm, as_algorithm, specification
from ...data import Data, as_data, hold_out
from ...models import UnrolledNetwork, model_for
from ...networks import count_parameters
from ...networks.fingerprint import model_fingerprint
from ...recipes import Recipe, as_config, as_recipe, default_recipe
from ...report import bibtex, certify_model, count_flops
from ...theory import Binding, Certificate
from ...training import Run
from ...training.distributed.world import World
from ...training.runs.fingerprint import of_data
from ..statistics.held_out import HELD_OUT, SEED
from ..statistics.plan import EQUALITY_TEST, PLAN, TEST, keep_plan, read_plan
from ..study import CallbacksByLabel
from ..tasks.queue import Engine, Queue, as_queue, no_callbacks, only_main
from .budget import Budget, as_budget, costs, epochs_for
from .comparison import Comparison, ComparisonEntry
from .outcomes import ArmTraining, Outcome, Task, together, train_all
from .tuning import Tried, best_of, trials


def compare(
    algorithms: Sequence[Algorithm | str],
    data: Any = "digits",
    *,
    model: str = "resnet20",
    seeds: int = 3,
    recipe: Recipe | str | None = None,
    binding: Binding | None = None,
    tune: int = 0,
    budget: Budget = "steps",
    margin: float | None = None,
    hypothesis: str = "",
    run: str | Path = "runs/comparison",
    callbacks: CallbacksByLabel = no_callbacks,
    device: str | torch.device | None = None,
    progress: bool = True,
    jobs: int | None = None,
    engine: Engine | None = None,
) -> Comparison:
    """Train the same model with each algorithm on the same data from the same weights, once for each seed.

    The same call on the same run goes on where it was. A training whose loss becomes NaN or infinite counts as
    diverged.

    Args:
        algorithms: at least one; names with coefficients, or algorithms.
        data: as for `mm.fit`.
        model: a model's name, with settings if need be.
        seeds: the number of trainings of each algorithm; their seeds are 0, 1, ...
        recipe: an object or a name, as for `mm.fit`; by default a short one that suits the data.
        binding: by default the model's own.
        tune: the number of learning rates, a factor of two apart around the recipe's, among which each algorithm gets
            the best on a fifth of the training samples, before the judged trainings; 0 for the recipe's. From 9 on, a
            third of them each at three momenta, where the optimizer has one.
        budget: what the trainings of all algorithms have in common with the first one's, by other numbers of epochs:
            "steps", "flops" (counted) or "time" (that of a step in one thread, measured before the start).
        margin: the difference that counts as none, in points of accuracy, or in the loss of a regression.
        hypothesis: a sentence for the plan on what is expected.
        run: a folder for plan.yaml, the run of each training, comparison.json, table.md, figure.svg and report.html.
        callbacks: makes the callbacks of each training from its label.
        device: by default a GPU where there is one, else the CPU.
        progress: show each training as it goes, as `mm.fit` does.
        jobs: the most trainings at a time; more than one are made in processes of their own, which share the cores.
        engine: "ray" trains on a cluster (extra `cluster`), as many models at a time as it has room for.

    Raises:
        MinimandError: no algorithms, or one twice, or the folder has a plan of something else; nothing is trained.
    """
    data = _checked(algorithms, data, seeds, margin)
    recipe = _that_spends(as_recipe(recipe) or default_recipe(data, model_for(model, data)), as_budget(budget))
    task, folder = Task(data, model, binding, recipe, as_device(device)), Path(run)
    tried = trials(recipe, tune) if tune else []
    queue, world = as_queue(jobs, engine, callbacks, progress), World()
    contestants = _contestants(algorithms, task)
    with ExitStack() as stack:
        world.on_main(lambda: stack.enter_context(_claimed(folder)))
        contestants = world.on_main(lambda: _on_budget(contestants, task, as_budget(budget), folder))
        design = _Design(range(seeds), tried, as_budget(budget), margin, hypothesis)
        world.on_main(lambda: keep_plan(folder, _plan(task, contestants, design)))
        return _Trainer(task, contestants, design, folder, queue).compare()


def _claimed(folder: Path) -> AbstractContextManager[None]:
    """The folder of a comparison, held for this process; raises MinimandError where it is one of something else."""
    check_holds(folder, "comparison", (PLAN,))
    return Run(folder).claimed()


def _checked(algorithms: Any, data: Any, seeds: int, margin: float | None) -> Data:
    """The data of a comparison; raises MinimandError for arguments that nothing can be compared by."""
    if isinstance(algorithms, str | Algorithm):
        raise WrongTypeError(f"algorithms is {algorithms!r}, a single one; expected a list: [{algorithms!r}].")
    if not algorithms:
        raise MinimandError("algorithms is empty; expected at least one.")
    check_number("seeds", seeds, 1, math.inf, whole=True)
    if margin is not None:
        check_number("margin", margin, 0, math.inf, below=True)
        if margin == 0:
            raise MinimandError("margin is 0, within which nothing can be shown; expected above 0, or None.")
    data = as_data(data)
    if len(data.test) == 0:
        raise MinimandError(f"{data.name} has no test samples, by which algorithms are compared; expected some.")
    return data


def _that_spends(recipe: Recipe, budget: Budget) -> Recipe:
    """A recipe as it is; raises MinimandError for one that may end before it has spent an equal budget."""
    if budget != "steps" and recipe.early_stopping:
        raise MinimandError(
            f"Recipe.early_stopping is {recipe.early_stopping}, which ends trainings before they have spent an equal "
            f"budget of {budget}; expected 0, or the budget 'steps'."
        )
    return recipe


@dataclass(frozen=True)
class _Design:
    """How a comparison is made: seeds, trials of each arm, the budget, and the margin of equality."""

    seeds: Sequence[int]
    tried: Sequence[Tried]
    budget: Budget
    margin: float | None
    hypothesis: str


def _plan(task: Task, contestants: Sequence["_Contestant"], design: "_Design") -> dict[str, Any]:
    """What is planned: arms, seeds, what is judged, tuning, and what all arms have in common."""
    has_accuracy = task.data.judged_by_accuracy
    measured = {c.label: {"epochs": c.epochs, "cost of an epoch": c.cost} for c in contestants if c.cost is not None}
    settings = [{"rate": t.rate} | ({} if t.momentum is None else {"momentum": t.momentum}) for t in design.tried]
    return {
        "hypothesis": design.hypothesis,
        "arms": [contestant.label for contestant in contestants],
        "seeds": list(design.seeds),
        "judged": "test accuracy, points" if has_accuracy else "test loss",
        "margin": "none" if design.margin is None else design.margin,
        "budget": {"equal": design.budget, **measured},
        "tuning": {"trials": settings, "held out": HELD_OUT, "seed": SEED} if design.tried else "none",
        "data": dict(task.data.loaded) or task.data.name,
        "fingerprints": {"data": of_data(task.data) or "unknown"},
        "model": task.model,
        "binding": task.binding,
        "recipe": as_config(task.recipe),
        "test": TEST if design.margin is None else f"{TEST}; {EQUALITY_TEST}",
    }


@dataclass(frozen=True)
class _Contestant:
    """An algorithm with a model that it wires, and what tells it from the others."""

    algorithm: Algorithm
    model: UnrolledNetwork
    certificate: Certificate
    fingerprint: str
    label: str = ""
    epochs: int = 0
    """The epochs of a training; 0 for the recipe's."""
    cost: float | None = None
    """The FLOPs or seconds of an epoch; None for equal steps."""

    @property
    def name(self) -> str:
        """What the folders of its runs begin with."""
        return f"{file_name(specification(self.algorithm))}-{self.fingerprint[:8]}"

    def recipe(self, recipe: Recipe) -> Recipe:
        """A recipe with the epochs of this arm."""
        return replace(recipe, epochs=self.epochs or recipe.epochs)


def _contestants(algorithms: Sequence[Algorithm | str], task: Task) -> list[_Contestant]:
    """Build and certify the models of all algorithms, before the first is trained."""
    contestants: dict[tuple[str, str], _Contestant] = {}
    for algorithm in map(as_algorithm, algorithms):
        model = task.network(algorithm)
        identity = specification(algorithm), str(model_fingerprint(model))
        if identity in contestants:
            raise MinimandError(f"algorithms has {algorithm} twice; expected each once.")
        contestants[identity] = _Contestant(algorithm, model, certify_model(model), identity[1])
    names = Counter(str(c.algorithm) for c in contestants.values())
    return [replace(c, label=_label(c, alone=names[str(c.algorithm)] == 1)) for c in contestants.values()]


def _label(contestant: _Contestant, alone: bool) -> str:
    """The algorithm; with its file and its fingerprint where another reads the same."""
    if alone:
        return str(contestant.algorithm)
    module = sys.modules.get(type(contestant.algorithm).__module__)
    file = Path(getattr(module, "__file__", None) or "").name
    return f"{contestant.algorithm} [{file} {contestant.fingerprint[:4]}]"


def _on_budget(contestants: Sequence[_Contestant], task: Task, budget: Budget, folder: Path) -> Sequence[_Contestant]:
    """The contestants with the epochs of an equal budget; what a plan there has measured is not measured again."""
    if budget == "steps":
        return contestants
    planned = (read_plan(folder) or {}).get("budget", {})
    if planned.get("equal") == budget and all(c.label in planned for c in contestants):
        measured = {c.label: planned[c.label]["cost of an epoch"] for c in contestants}
    else:
        measured = costs(budget, {c.label: c.model for c in contestants}, task.data, task.recipe, task.device)
    epochs = epochs_for(measured, task.recipe.epochs)
    return [replace(c, epochs=epochs[c.label], cost=measured[c.label]) for c in contestants]


@dataclass(frozen=True)
class _Trainer:
    """Trains the arms of a comparison, and puts together what came of it."""

    task: Task
    contestants: Sequence[_Contestant]
    design: _Design
    folder: Path
    queue: Queue

    def compare(self) -> Comparison:
        """Tune the arms, if so planned, then train them with every seed, and write the comparison."""
        tuned = self._tuned() if self.design.tried else {c.label: (None, []) for c in self.contestants}
        arms = {c.label: replace(self.task, recipe=c.recipe(self.task.recipe)) for c in self.contestants}
        for label, (chosen, _) in tuned.items():
            if chosen is not None:
                arms[label] = replace(arms[label], recipe=chosen.applied(arms[label].recipe))
        trainings = {
            (c.label, seed): self._training(f"{c.label} seed {seed}", c, arms[c.label], seed, f"{c.name}-seed{seed}")
            for seed in self.design.seeds
            for c in self.contestants
        }

        def comparison(outcomes: Mapping[str, Outcome], seeds: Sequence[int]) -> Comparison:
            entries = []
            for c in self.contestants:
                by_seed = {seed: outcomes[trainings[c.label, seed].run] for seed in seeds}
                entry, (chosen, tried) = _entry(c, by_seed, self.task.data), tuned[c.label]
                epochs = arms[c.label].recipe.epochs
                entries.append(replace(entry, tried=tried, chosen=chosen, epochs=epochs, cost=c.cost))
            runs = [training.run for (_, seed), training in trainings.items() if seed in seeds]
            return self._comparison(entries, seeds, together([outcomes[run].environment for run in runs]))

        def write_table(outcomes: Mapping[str, Outcome]) -> None:
            """Write the table of the seeds with which all arms are trained, while others are still to come."""
            missing = {seed for (_, seed), training in trainings.items() if training.run not in outcomes}
            seeds = [seed for seed in self.design.seeds if seed not in missing]
            if seeds and missing:
                note = f"{len(seeds)} of {len(self.design.seeds)} seeds so far.\n"
                text = f"{comparison(outcomes, seeds).markdown()}\n{note}"
                only_main(lambda: write_whole(self.folder / "table.md", text))

        outcomes = train_all(self.queue, list(trainings.values()), write_table)
        result = comparison(outcomes, list(self.design.seeds))
        finished = [training for training in trainings.values() if outcomes[training.run].loss is not None]
        pages = [(f"{training.run}/report.html", training.label) for training in finished]
        references = bibtex(*[contestant.model for contestant in self.contestants], self.task.data)
        only_main(lambda: result.write(self.folder, pages, references))
        return result

    def _tuned(self) -> dict[str, tuple[Tried | None, list[Tried]]]:
        """The best settings of each arm by its label, and all that were tried with their scores."""
        held_out = hold_out(self.task.data, HELD_OUT, SEED)
        trainings: dict[str, list[ArmTraining]] = {}
        for c in self.contestants:
            task, runs = replace(self.task, data=held_out), list[ArmTraining]()
            for tried in self.design.tried:
                arm = replace(task, recipe=tried.applied(c.recipe(task.recipe)))
                runs.append(
                    self._training(f"tuning {c.label}, {tried}", c, arm, SEED, f"tuning/{c.name}/{tried.file_name}")
                )
            trainings[c.label] = runs
        outcomes = train_all(self.queue, [training for runs in trainings.values() for training in runs])
        return {
            label: best_of(label, self.design.tried, [outcomes[training.run] for training in runs])
            for label, runs in trainings.items()
        }

    def _training(self, label: str, contestant: _Contestant, arm: Task, seed: int, run: str) -> ArmTraining:
        return ArmTraining(label, arm, contestant.algorithm, seed, self.folder.absolute(), run)

    def _comparison(self, entries: list[ComparisonEntry], seeds: Sequence[int], machine: dict[str, Any]) -> Comparison:
        task, design = self.task, self.design
        certificates = {c.label: c.certificate for c in self.contestants}
        about = task.data.name, task.model, _describe(task.recipe), list(seeds), machine
        return Comparison(*about, entries, certificates, design.budget, design.margin, design.hypothesis)


def _entry(contestant: _Contestant, by_seed: Mapping[int, Outcome], data: Data) -> ComparisonEntry:
    finished = [outcome for outcome in by_seed.values() if outcome.loss is not None]
    return ComparisonEntry(
        contestant.label,
        count_parameters(contestant.model),
        count_flops(contestant.model, data.shape, data.is_text),
        [outcome.accuracy for outcome in finished if outcome.accuracy is not None],
        [outcome.loss for outcome in finished if outcome.loss is not None],
        [sum(record["seconds"] for record in outcome.history) for outcome in finished],
        [outcome.history for outcome in finished],
        [seed for seed, outcome in by_seed.items() if outcome.loss is None],
    )


def _describe(recipe: Recipe) -> str:
    optimizer, schedule = type(recipe.optimizer).__name__, type(recipe.schedule).__name__
    steps = f"{recipe.epochs} epochs of {optimizer} at {recipe.optimizer.lr:g}"
    return f"{steps}, {schedule}, batches of {recipe.batch_size}"

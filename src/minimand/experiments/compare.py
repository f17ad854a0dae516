"""Algorithms side by side: same data, same blocks, several seeds."""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .._support.calls import file_name
from .._support.checks import check_number
from .._support.environment import as_device, environment
from .._support.errors import MinimandError, WrongTypeError
from .._support.seeds import seeded_apart
from ..algorithms import Algorithm, as_algorithm, specification
from ..data import Data, as_data
from ..models import UnrolledNetwork, model_for
from ..networks import count_parameters
from ..networks.fingerprint import model_fingerprint
from ..recipes import Recipe, as_config, as_recipe, default_recipe
from ..report import bibtex, certify_model, count_flops
from ..theory import Binding, Certificate
from ..training import Callback, FitResult, NonFiniteLossError, fit
from ..training.hooks.progress import with_progress
from .budget import Budget, as_budget, costs, epochs_for
from .comparison import Comparison, ComparisonEntry
from .held_out import HELD_OUT, SEED
from .plan import EQUALITY_TEST, TEST, keep_plan, read_plan
from .study import CallbacksByLabel
from .tuning import Tried, trials, tune as tune_arm


@dataclass(frozen=True)
class Task:
    """A named model to be trained on some data, by whatever algorithm it is wired."""

    data: Data
    model: str
    binding: Binding | None
    recipe: Recipe
    device: torch.device

    def network(self, algorithm: Algorithm) -> UnrolledNetwork:
        """The model that an algorithm wires, with new weights."""
        return model_for(self.model, self.data, algorithm, self.binding)

    def train(
        self, algorithm: Algorithm, seed: int, callbacks: Sequence[Callback], run: Path | None = None
    ) -> FitResult:
        """Train the model that an algorithm wires; the seed decides its first weights and every random choice."""
        with seeded_apart(seed, torch.device("cpu")):
            model = self.network(algorithm)
        how: dict[str, Any] = {"recipe": self.recipe, "device": self.device, "callbacks": callbacks, "progress": False}
        return fit(model, self.data, run=run, seed=seed, **how)


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
    callbacks: CallbacksByLabel = lambda label: (),
    device: str | torch.device | None = None,
    progress: bool = True,
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

    Raises:
        ValueError: no algorithms, or one given twice, or the folder has a plan of something else; nothing is trained.
    """
    data = _checked(algorithms, data, seeds, margin)
    device = as_device(device)
    recipe = as_recipe(recipe) or default_recipe(data, model_for(model, data))
    task, folder = Task(data, model, binding, recipe, device), Path(run)
    tried = trials(recipe, tune) if tune else []
    contestants = _on_budget(_contestants(algorithms, task), task, as_budget(budget), folder)
    design = _Design(range(seeds), tune, as_budget(budget), margin)
    keep_plan(folder, _plan(task, contestants, design, tried, hypothesis))
    return _compare(task, contestants, design, folder, shown(callbacks, progress))


def _checked(algorithms: Any, data: Any, seeds: int, margin: float | None) -> Data:
    """The data of a comparison; raises MinimandError for arguments that nothing can be compared by."""
    if isinstance(algorithms, str | Algorithm):
        raise WrongTypeError(f"algorithms is {algorithms!r}, a single one; expected a list: [{algorithms!r}].")
    if not algorithms:
        raise MinimandError("algorithms is empty; expected at least one.")
    if seeds < 1:
        raise MinimandError(f"seeds is {seeds}; expected at least 1.")
    if margin is not None:
        check_number("margin", margin, 0, math.inf, below=True)
    data = as_data(data)
    if len(data.test) == 0:
        raise MinimandError(f"{data.name} has no test samples, by which algorithms are compared; expected some.")
    return data


@dataclass(frozen=True)
class _Design:
    """How a comparison is made: seeds, trials of each arm, the budget, and the margin of equality."""

    seeds: Sequence[int]
    tries: int
    budget: Budget
    margin: float | None


def _plan(
    task: Task, contestants: Sequence["_Contestant"], design: "_Design", tried: Sequence[Tried], hypothesis: str
) -> dict[str, Any]:
    """What is planned: arms, seeds, what is judged, tuning, and what all arms have in common."""
    has_accuracy = task.data.judged_by_accuracy
    measured = {c.label: {"epochs": c.epochs, "cost of an epoch": c.cost} for c in contestants if c.cost is not None}
    settings = [{"rate": t.rate} | ({} if t.momentum is None else {"momentum": t.momentum}) for t in tried]
    return {
        "hypothesis": hypothesis,
        "arms": [contestant.label for contestant in contestants],
        "seeds": list(design.seeds),
        "judged": "test accuracy, points" if has_accuracy else "test loss",
        "margin": "none" if design.margin is None else design.margin,
        "budget": {"equal": design.budget, **measured},
        "tuning": {"trials": settings, "held out": HELD_OUT, "seed": SEED} if tried else "none",
        "data": dict(task.data.loaded) or task.data.name,
        "model": task.model,
        "binding": task.binding,
        "recipe": as_config(task.recipe),
        "test": TEST if design.margin is None else f"{TEST}; {EQUALITY_TEST}",
    }


def shown(callbacks: CallbacksByLabel, progress: bool) -> CallbacksByLabel:
    """Callbacks of each training by its label, with one that shows progress if wanted."""
    return lambda label: with_progress(callbacks(label), progress, label)


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


def _compare(
    task: Task, contestants: Sequence[_Contestant], design: "_Design", folder: Path, callbacks: CallbacksByLabel
) -> Comparison:
    entries: list[ComparisonEntry] = []
    run_pages: list[tuple[str, str]] = []
    for contestant in contestants:
        results: list[FitResult] = []
        diverged: list[int] = []
        name = f"{file_name(specification(contestant.algorithm))}-{contestant.fingerprint[:8]}"
        arm = replace(task, recipe=contestant.recipe(task.recipe))
        chosen, tried = None, list[Tried]()
        if design.tries:
            chosen, tried = _tuned(arm, contestant, design.tries, folder / "tuning" / name, callbacks)
            arm = replace(arm, recipe=chosen.applied(arm.recipe))
        for seed in design.seeds:
            run = folder / f"{name}-seed{seed}"
            label = f"{contestant.label} seed {seed}"
            try:
                results.append(arm.train(contestant.algorithm, seed, callbacks(label), run))
                run_pages.append((f"{run.name}/report.html", label))
            except NonFiniteLossError:
                diverged.append(seed)
        entry = _entry(contestant, results, diverged, task.data)
        entries.append(replace(entry, tried=tried, chosen=chosen, epochs=arm.recipe.epochs, cost=contestant.cost))
    certificates = {contestant.label: contestant.certificate for contestant in contestants}
    machine, recipe = environment(task.device), _describe(task.recipe)
    comparison = Comparison(
        task.data.name,
        task.model,
        recipe,
        list(design.seeds),
        machine,
        entries,
        certificates,
        design.budget,
        design.margin,
    )
    comparison.write(folder, run_pages, bibtex(*[contestant.model for contestant in contestants], task.data))
    return comparison


def _tuned(
    task: Task, contestant: _Contestant, tries: int, folder: Path, callbacks: CallbacksByLabel
) -> tuple[Tried, list[Tried]]:
    """The best settings for a contestant, and all that were tried with their scores."""

    def train(data: Data, recipe: Recipe, seed: int, callbacks: Sequence[Callback], run: Path) -> FitResult:
        return replace(task, data=data, recipe=recipe).train(contestant.algorithm, seed, callbacks, run)

    return tune_arm(train, task.data, task.recipe, tries, folder, contestant.label, callbacks)


def _entry(contestant: _Contestant, results: Sequence[FitResult], diverged: list[int], data: Data) -> ComparisonEntry:
    return ComparisonEntry(
        contestant.label,
        count_parameters(contestant.model),
        count_flops(contestant.model, data.shape, data.text is not None),
        [r.test_accuracy for r in results if r.test_accuracy is not None],
        [r.test_loss for r in results if r.test_loss is not None],
        [sum(record["seconds"] for record in r.history) for r in results],
        [r.history for r in results],
        diverged,
    )


def _describe(recipe: Recipe) -> str:
    optimizer, schedule = type(recipe.optimizer).__name__, type(recipe.schedule).__name__
    steps = f"{recipe.epochs} epochs of {optimizer} at {recipe.optimizer.lr:g}"
    return f"{steps}, {schedule}, batches of {recipe.batch_size}"

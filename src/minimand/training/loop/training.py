"""What a training is made of: everything that hooks, the loop and checkpoints see of it."""

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from itertools import accumulate
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from ..._support.clock import timed, timing
from ..._support.errors import MinimandError
from ..._support.torch.internals import uncompiled
from ..._support.torch.seeds import derived_seed
from ...data import Arrays, Data, Loader, Samples
from ...data.data import PreparedSamples, as_prepared
from ...data.text.windows import Windows
from ...recipes.recipe import Recipe, TestViews
from ..distributed.world import World
from ..hooks.hook import HOOKS
from ..methods.local.activations import check_cached, sources
from ..methods.method import Method
from ..runs.run import Run
from .evaluate import Evaluation, Metrics, autocast, evaluate_batches
from .events import Callback, Event
from .losses import Loss, as_loss
from .problems import Problem
from .views import check_views


class Training:
    """One training of a model: its problems, hooks and sources, and how far it is."""

    problem: Problem
    """The problem that is being solved."""
    optimizer: torch.optim.Optimizer
    """The optimizer of the present problem."""
    forward: nn.Module
    """The module of the present problem as it is called: wrapped for several processes, or compiled."""

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        method: Method,
        recipe: Recipe,
        loss: str | Loss | None,
        run: Run | None,
        seed: int,
        callbacks: tuple[Callback, ...],
        world: World,
        diagnose: bool,
        metrics: Metrics = MappingProxyType({}),
    ) -> None:
        self.compiled_model = model if uncompiled(model) is not model else None
        """The model as the caller compiled it; None if it is not compiled."""
        self.model, self.data, self.method, self.recipe = (model := uncompiled(model)), data, method, recipe
        self.kept_in_evaluation = [m for m in model.modules() if model.training and not m.training]
        """Modules that the caller put in evaluation mode, such as frozen normalizations; they stay so."""
        self.was_in_evaluation = not model.training
        self.whole_data, self.loss_argument = data, loss
        self.run, self.seed, self.callbacks, self.world, self.diagnose = run, seed, callbacks, world, diagnose
        self.metrics = metrics
        convert_conv2d_weight_memory_format(model, torch.channels_last)  # as batches are; a fifth faster on CPUs
        self.device = next(model.parameters()).device
        self.loss, self.test_loss = as_loss(loss, data, recipe), as_loss(loss, data)
        if not isinstance(data.train, Loader):
            world.check_batch(min(recipe.samples_per_update, len(data.train)))
        with torch.random.fork_rng(devices=[]):  # what a method adds to the model follows from the seed
            torch.manual_seed(derived_seed(seed, -1))
            self.plan = method.plan(model, self.example, data.num_outputs, recipe.epochs)
        world.broadcast(self.plan.saved.state_dict().values())
        self.world = self.plan.world or world
        self.hooks = {name: hook(self) for name, hook in HOOKS.items() if hook.is_wanted(self)}
        self.data = data = reduce(lambda data, hook: hook.select_data(data), self.hooks.values(), data)
        self._prepare_samples()
        self.counts_right = data.judged_by_accuracy and not any(h.hides_accuracy for h in self.hooks.values())
        if self.plan.cache is not None:
            if recipe.test_views != 1:
                raise MinimandError(
                    f"Recipe.test_views is {recipe.test_views}, but {type(method).__name__} keeps the activations of "
                    "test images in one view; expected 1, or cache='off'."
                )
            check_cached(data, recipe, self.world)
            self.plan.cache.check(len(data.train), len(data.test), None if run is None else run.folder)
        self.ends = list(accumulate(problem.epochs * self.steps_per_epoch for problem in self.plan.problems))
        """The step after which each problem ends."""
        self.steps = self.ends[-1]
        self.step = self.number = self.samples_of_step = 0
        self.history: list[dict[str, Any]] = []
        self.evaluation: Evaluation | None = None

    def _prepare_samples(self) -> None:
        data, recipe = self.data, self.recipe
        check_views(recipe.test_views, data, "Recipe.test_views")
        augmentation = recipe.augmentation or data.augmentation
        unchecked = not isinstance(data.train, Arrays | Windows)  # which were checked when they became data
        self.train_samples = data.train.to(self.device)
        if not getattr(data.train, "is_prepared", False):
            prepared = PreparedSamples(data, self.train_samples, self.device, augmentation, unchecked)
            self.train_samples = replace(prepared, seed=self.seed, epoch=lambda: self.step // self.steps_per_epoch)
        self.test_samples = as_prepared(data, data.test.to(self.device), self.device)
        self.batch = None if isinstance(data.train, Loader) else min(recipe.samples_per_update, len(data.train))
        """The samples of an update; None where a loader decides."""
        self.steps_per_epoch = self.train_samples.count(recipe.samples_per_update, shuffled=True)

    def example(self) -> Any:
        """The example batch, as the model sees it."""
        return self.data.example(self.device)

    @timed("hooks")
    def tell(self, event: Event) -> None:
        """Tell an event to the callbacks, in the main process."""
        for callback in self.callbacks if self.world.is_main else ():
            callback(event)

    @timed("other")
    def begin_problem(self, number: int) -> None:
        """Begin a problem of the plan: with an optimizer, sources and copies of its own."""
        self.number, self.problem, self.ended_early = number, self.plan.problems[number], False
        module = self.problem.module
        for hook in self.hooks.values():
            hook.begin_problem(module)
        self.copies = {name: copy for hook in self.hooks.values() for name, copy in hook.copies().items()}
        wrapped = self.world.wrap(module, self.example, [copy.get_submodule("module") for copy in self.copies.values()])
        self.forward = reduce(lambda forward, hook: hook.callable(forward), self.hooks.values(), wrapped)
        self.backward = reduce(lambda back, hook: hook.around_backward(back), self.hooks.values(), self.method.backward)
        self.trained_beside = [part for hook in self.hooks.values() for part in hook.trained_beside()]
        trained = nn.ModuleList([self.problem.trained, *self.trained_beside])
        self.optimizer = self.recipe.optimizer.build(trained, self.recipe.scalars, self.recipe.biases)
        self.train_source = self.world.source(self.train_samples, True)
        self.test_source = self.world.source(self.test_samples, False)
        cache = self.plan.cache
        if cache is not None and number >= cache.first:
            with timing("data"), autocast(self.device, self.recipe.precision):
                self.train_source, self.test_source = cache.feed(number, sources(self, cache.views), self.device)

    def set_modes(self, module: nn.Module) -> None:
        """Put a module in training mode, but for what the caller put in evaluation mode."""
        module.train()
        for part in self.kept_in_evaluation:
            part.training = False

    def end_problem(self) -> None:
        """End the present problem: its module gets the weights that it ends with."""
        self.world.unwrap()
        module, judged = self.problem.module, self.judged
        final = reduce(lambda module, hook: hook.final(module), self.hooks.values(), judged)
        if final is not module:
            module.load_state_dict(final.state_dict())
        if final is not judged or (self.ended_early and self.recipe.test_views != 1):
            self.evaluation = self.evaluate(module, self.test_source, self.recipe.test_views)

    def finish_problem(self) -> None:
        """Let the present problem end after this epoch."""
        self.step, self.ended_early = self.ends[self.number], True

    @property
    def is_problem_done(self) -> bool:
        """Whether the present problem has made all its steps."""
        return self.step == self.ends[self.number]

    @property
    def progress(self) -> float:
        """The fraction of the present problem that is done, 0 to 1."""
        length = self.problem.epochs * self.steps_per_epoch
        return (self.step - self.ends[self.number] + length) / length

    @property
    def judged(self) -> nn.Module:
        """The module that is evaluated: the problem's own, or a moving average of it."""
        return reduce(lambda module, hook: hook.judged(module), self.hooks.values(), self.problem.module)

    @timed("evaluation")
    def evaluate(self, module: nn.Module, samples: Samples, views: TestViews = 1) -> Evaluation | None:
        """Evaluate a module on samples, in all processes alike; None where there are none."""
        if len(samples) == 0:
            return None
        if not getattr(samples, "is_prepared", False):
            samples = self.world.source(as_prepared(self.data, samples.to(self.device), self.device), False)
        self.world.broadcast(module.buffers())  # statistics of batches are those of rank 0's shares
        with autocast(self.device, self.recipe.precision):
            evaluation = evaluate_batches(module, self.data, samples, self.test_loss, self.world, self.metrics, views)
        return self.world.from_main(evaluation)

    @timed("hooks")
    def for_each(self, call: Callable[[Any], None]) -> None:
        """Call a function with every hook."""
        for hook in self.hooks.values():
            call(hook)

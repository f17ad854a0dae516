"""The loop around a method: epochs, batches, checkpoints, metrics."""

import math
import time
from bisect import bisect_left
from contextlib import nullcontext
from dataclasses import asdict
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..._support.environment import environment
from ..._support.errors import MinimandError
from ...data.data import Data
from ...data.samples import Arrays, Loader, Samples, seed_everything
from ...networks.compiled import compiled
from ...networks.skeletons import skeletons
from ...recipes.recipe import Recipe
from ..distributed.ranks import Ranks
from ..hooks.clipping import clip_adaptively
from ..hooks.mixing import as_mixing
from ..hooks.nonfinite import NonFiniteLossError, broken_gradient, broken_parameter, origin
from ..hooks.watch import Watch
from ..methods.local.activations import State, prepared
from ..methods.local.sources import check_cached, sources
from ..methods.method import Method
from ..runs import checkpoint
from ..runs.checkpoint import Checkpoint
from ..runs.configuration import configuration, unchecked
from ..runs.interrupts import Interrupts, deferred_interrupts
from ..runs.run import Run
from ..runs.seeds import mixed, restore_random_state
from .evaluate import Evaluation, evaluate
from .events import Callback, EpochDone, Event, Finished, Saved, Started, StepDone, Stopped, Warned
from .losses import Loss, as_loss
from .result import FitResult

# Samples that a method sees when it plans.
_EXAMPLES = 4


class Session:
    """One call of `fit`: everything that changes while a model is trained."""

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
        checkpoint_every: float,
        ranks: Ranks,
    ) -> None:
        self.ranks = ranks
        self.model, self.data, self.method, self.recipe = model, data, method, recipe
        self.run, self.seed, self.callbacks = run, seed, callbacks
        self.checkpoint_every, self.saved = checkpoint_every, time.monotonic()
        convert_conv2d_weight_memory_format(model, torch.channels_last)  # as batches are; a fifth faster on CPUs
        self.device = next(model.parameters()).device
        self.loss = as_loss(loss, data, recipe)
        self.mixing = as_mixing(recipe, data)
        self.test_loss = loss
        self.projections = [skeleton.project for skeleton in skeletons(model)]
        self.counted = data.task == "classification" and self.mixing is None
        # Those in memory were checked before.
        self.check_each = data.task == "classification" and not isinstance(data.train, Arrays)
        self.train_samples, self.test_samples = data.train.to(self.device), data.test.to(self.device)
        self.augment = recipe.augmentation or data.augmentation
        self.batch = None if isinstance(data.train, Loader) else min(recipe.batch_size, len(data.train))
        if self.batch is not None:
            ranks.check_batch(self.batch)
        self.steps_per_epoch = self.train_samples.count(recipe.batch_size, shuffled=True)
        with torch.random.fork_rng(devices=[]):  # what a method adds to the model follows from the seed
            torch.manual_seed(mixed(seed, -1))
            self.plan = method.plan(model, self._example, data.num_outputs, recipe.epochs)
        ranks.spread(self.plan.saved.state_dict().values())
        self.ranks = ranks = self.plan.ranks or ranks
        if ranks.stages > 1 and (recipe.clip or recipe.adaptive_clip):
            raise MinimandError(
                "Recipe.clip and adaptive_clip look at a whole network, not at a rank's part; expected 0."
            )
        if self.plan.cache is not None:
            check_cached(data, self.mixing, ranks)
            self.plan.cache.check(len(data.train), len(data.test), None if run is None else run.folder)
        self.ends = list(accumulate(problem.epochs * self.steps_per_epoch for problem in self.plan.problems))
        self.steps = self.ends[-1]
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.evaluation: Evaluation | None = None
        # Sums over the epoch so far: loss x samples, right answers, samples; and its seconds before this process.
        self.sums = torch.zeros(3, dtype=torch.double)
        self.seconds = 0.0
        self.watch: Watch | None = None
        if run is not None:
            self.config = configuration(model, data, method, recipe, loss, seed, self.device, ranks.stages)
            ranks.first(lambda: run.begin(self.config, environment(self.device)))

    def tell(self, event: Event) -> None:
        for callback in self.callbacks if self.ranks.leads else ():
            callback(event)

    def _example(self) -> Tensor:
        """A few samples, as the model sees them."""
        inputs, _ = next(iter(self.test_samples.batches(_EXAMPLES)))
        return prepared(self.data, inputs.to(self.device))

    def _begin_problem(self, number: int) -> None:
        """With an optimizer, an average and a schedule of its own."""
        recipe = self.recipe
        self.number, self.problem = number, self.plan.problems[number]
        module, trained = self.problem.module, self.problem.trained
        self.average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema)) if recipe.ema else None
        wrapped = self.ranks.wrap(module, self._example, *([self.average.module] if self.average is not None else []))
        self.forward = compiled(wrapped) if recipe.compile else wrapped
        self.optimizer = recipe.optimizer.build(trained, recipe.scalars)
        self.fed = [self.ranks.feed(self.train_samples, True), self.ranks.feed(self.test_samples, False)]
        cache, samples = self.plan.cache, (self.train_samples, self.test_samples)
        if cache is not None and number >= cache.first:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                found = sources(self.data, *samples, cache.views, self.augment, self.seed, self.device)
                self.fed = cache.feed(number, found, self.device)

    def _end_problem(self) -> None:
        self.ranks.unwrap()
        if self.average is not None:
            self.problem.module.load_state_dict(self.average.module.state_dict())

    def train(self) -> FitResult:
        try:
            self._resume()
            self.tell(Started(self.steps, self.step, self.steps // self.steps_per_epoch))
            if self.batch is not None and self.batch % self.ranks.count:
                count = self.ranks.count
                self.tell(Warned(f"{count} processes share batches of {self.batch} unevenly, weighted by size."))
            with deferred_interrupts() if self.run else nullcontext(Interrupts()) as interrupts:
                while self.step < self.steps:
                    if self.step == self.ends[self.number]:
                        self._end_problem()
                        self._begin_problem(self.number + 1)
                    self._epoch(self.step // self.steps_per_epoch, interrupts)
        except BaseException as error:
            if self.run is not None and self.step == 0 and self.ranks.leads:
                self.run.discard()
            self.tell(Stopped(error))
            raise
        finally:
            if self.plan.cache is not None:
                self.plan.cache.close()
        assert self.evaluation is not None
        self._end_problem()
        self.ranks.complete()
        self.tell(Finished(self.history[-1]))
        return FitResult(
            self.model,
            self.data,
            self.method,
            self.evaluation.accuracy,
            self.evaluation.loss,
            self.history,
            self.evaluation,
            self.run,
            self.watch and self.watch.first,
            self.plan.ensemble,
            self._evaluated(self.plan.ensemble, self.test_samples) if self.plan.ensemble else None,
        )

    def _epoch(self, epoch: int, interrupts: Interrupts) -> None:
        first = self.step - epoch * self.steps_per_epoch
        if first == 0:
            # All that is random in an epoch follows from the seed and its number.
            seed_everything(mixed(self.seed, epoch))
            self.sums.zero_()
            self.seconds = 0.0
        self.began = time.monotonic()
        self.problem.module.train()
        batches = self.fed[0].batches(self.recipe.batch_size, mixed(self.seed, epoch), first, self.ranks.share)
        if first > 0:  # making the batches may have drawn
            restore_random_state(self.device, *self._random)
        for inputs, targets in self.ranks.seeded(batches, self.seed, self.step):
            self._update(inputs, targets, epoch)
            due = interrupts.asked or time.monotonic() - self.saved >= self.checkpoint_every
            stop, due = self.ranks.agree(interrupts.asked, due)
            if due and self.step % self.steps_per_epoch:
                self._save()
                self._stop_if(stop)
        self._end(epoch)
        self._stop_if(self.ranks.any(interrupts.asked))

    def _stop_if(self, asked: bool) -> None:
        if asked:
            self.ranks.unwrap()
            raise KeyboardInterrupt

    def _update(self, inputs: Tensor, targets: Tensor, epoch: int) -> None:
        recipe = self.recipe
        if self.check_each and targets.device.type == "cpu":
            self.data.check_classes(targets)
        inputs, y = inputs.to(self.device), targets.to(self.device)
        if self.data.task == "classification" and y.ndim == 1:  # another rank may have mixed them
            y = y.long()
        if isinstance(inputs, State):
            x = inputs
        else:
            x = self.data.prepare(self.augment(inputs) if inputs.ndim == 4 else inputs)
            if self.mixing is not None:
                x, y = self.mixing(x, y)
        if self.watch is not None:
            self.watch.before(self.step, x)
        length = self.problem.epochs * self.steps_per_epoch
        done = self.step - self.ends[self.number] + length
        rate = recipe.optimizer.lr * recipe.schedule.factor(done / length)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.optimizer.zero_grad()
        batch = self.batch or self.ranks.batch(len(y))
        judge = self.ranks.weighted(self.loss, len(y), batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            loss, outputs = self.method.backward(self.forward, x, y, judge)
        right = (outputs.argmax(1) == y).sum() if self.counted else torch.zeros_like(loss)
        trained = self.problem.trained
        gradients = (p.grad for p in trained.parameters() if p.grad is not None)
        norms = [self.ranks.whole(nn.utils.get_total_norm(gradients))] if recipe.clip or recipe.adaptive_clip else []
        measured = self.ranks.sum(torch.stack([loss.double() / self.ranks.count, right.double()]))
        everything = torch.cat([measured, *(norm.double().view(1) for norm in norms)])
        value, right, *found = everything.tolist()  # one wait for the device
        if not math.isfinite(value):
            self.ranks.unwrap()
            began = self.ranks.told(not loss.isfinite(), lambda: origin(self.problem.module, x, recipe.precision))
            raise NonFiniteLossError(f"the loss is {value} at step {self.step}. It began {began}.")
        if not all(map(math.isfinite, found)):
            raise NonFiniteLossError(
                f"the loss is {value} at step {self.step}, but the gradient of {broken_gradient(trained)}."
            )
        if recipe.clip:
            nn.utils.clip_grads_with_norm_(trained.parameters(), recipe.clip, norms[0])
        if recipe.adaptive_clip:
            clip_adaptively(trained, recipe.adaptive_clip)
        self.optimizer.step()
        for project in self.projections:
            project()
        if self.average is not None:
            self.average.update_parameters(self.problem.module)
        self.sums += torch.tensor([value * batch, right, batch], dtype=torch.double)
        self.step += 1
        if self.watch is not None:
            self.watch.after(value)
        self.tell(StepDone(self.step, epoch, value, rate))

    def _end(self, epoch: int) -> None:
        evaluated = self.problem.module if self.average is None else self.average.module
        self.evaluation = found = self._evaluated(evaluated, self.fed[1])
        if not math.isfinite(found.loss):
            self._check_weights()
            raise NonFiniteLossError(f"the test loss is {found.loss} after epoch {epoch + 1}.")
        loss, right, seen = self.sums.tolist()
        record = self.ranks.first(
            lambda: {
                "epoch": epoch + 1,
                "step": self.step,
                **({"problem": self.number + 1} if len(self.plan.problems) > 1 else {}),
                "train_loss": loss / seen,
                "train_accuracy": right / seen if self.counted else None,
                "test_loss": found.loss,
                "test_accuracy": found.accuracy,
                "seconds": self.seconds + time.monotonic() - self.began,
                **getattr(self.method, "metrics", dict)(),
            }
        )
        self.history.append(record)
        if self.run is not None:
            if self.ranks.leads:
                self.run.log(record)
            self._save()
        self.tell(EpochDone(epoch, record))

    def _evaluated(self, module: nn.Module, samples: Samples) -> Evaluation:
        self.ranks.spread(module.buffers())  # statistics of batches are those of the first one's shares
        found = evaluate(module, self.data, samples, self.test_loss, self.recipe.precision, self.ranks)
        return self.ranks.as_first(found)

    def _check_weights(self) -> None:
        """So that no checkpoint with broken weights takes the place of a good one."""
        broken = broken_parameter(self.plan.saved)  # a buffer may be infinite on purpose, as masks are
        if broken:
            raise NonFiniteLossError(f"no weight may be infinite or NaN. After step {self.step} there is {broken}.")

    def _save(self) -> None:
        if self.run is None:
            return
        self._check_weights()
        sections, plain = self.ranks.pack(self.plan.saved, self.optimizer, self.average, self.device)
        state = {
            "step": self.step,
            "sums": self.sums.tolist(),
            "seconds": self.seconds + time.monotonic() - self.began,
            "metrics": self.run.position(),
            "history": self.history,
            "evaluation": None if self.evaluation is None else asdict(self.evaluation),
            **plain,
        }
        saved, folder = Checkpoint(sections, state), self.run.checkpoints
        path = self.ranks.first(lambda: checkpoint.save(saved, folder, self.step))
        self.saved = time.monotonic()
        self.tell(Saved(path))

    def _resume(self) -> None:
        found = None if self.run is None else self._last_checkpoint(self.run)
        if found is None:
            self._begin_problem(0)
            return
        checkpoint.load_weights(self.plan.saved, found.tensors["model"], str(self.run and self.run.checkpoints))
        self._begin_problem(bisect_left(self.ends, found.state["step"]))
        self.ranks.unpack(found, self.optimizer, self.average)
        self.step, self.history = found.state["step"], found.state["history"]
        self.sums = torch.tensor(found.state["sums"], dtype=torch.double)
        self.seconds = found.state["seconds"]
        self.evaluation = found.state["evaluation"] and Evaluation(**found.state["evaluation"])
        self._random = found.tensors["random"], found.state["random"]

    def _last_checkpoint(self, run: Run) -> Checkpoint | None:
        """The one to go on from; what was logged after it is forgotten."""
        found, problems = self.ranks.first(run.last_checkpoint)
        for problem in problems:
            self.tell(Warned(f"{problem} The one before it is used."))
        if self.ranks.leads:
            run.rewind(0 if found is None else found.state["metrics"])
        for name in unchecked(self.config) if found else ():
            self.tell(Warned(f"whether the {name} is what it was when the run began cannot be told."))
        return found

"""The training loop: problems, epochs, steps, events. What else a step does is a hook."""

import math
import time
from contextlib import nullcontext
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.clock import timing
from ..._support.torch.internals import BatchNorm, DropoutNd
from ..._support.torch.seeds import derived_seed, restore_random_state, seed_everything
from ..hooks.watching.nonfinite import NonFiniteLossError, check_weights
from ..runs.interrupts import Interrupts, deferred_interrupts
from ..runs.keeper import Keeper
from .events import EpochDone, Finished, Started, StepDone, Stopped, Warned
from .losses import fitting, right_answers, weight_of
from .result import FitResult, result_of
from .training import Training


class Loop:
    """Solves the problems of a training one after another, and keeps it in a run's folder."""

    def __init__(self, training: Training, checkpoint_every: float) -> None:
        self.training = training
        self.keeper = Keeper(training, checkpoint_every)

    def run(self) -> FitResult:
        """Train to the end, from the last checkpoint if there is one."""
        training = self.training
        try:
            self.keeper.resume()
            training.tell(Started(training.steps, training.step, training.steps // training.steps_per_epoch))
            self._warn_of_modes()
            self._warn_of_uneven_shares()
            with deferred_interrupts() if training.run else nullcontext(Interrupts()) as interrupts:
                while training.step < training.steps:
                    if training.is_problem_done:
                        training.end_problem()
                        training.begin_problem(training.number + 1)
                    self._epoch(training.step // training.steps_per_epoch, interrupts)
        except BaseException as error:
            begun_well = training.step > 0 and not isinstance(error, NonFiniteLossError)
            if training.run is not None and not begun_well and training.world.is_main:
                training.run.discard()  # a folder with a checkpoint stays
            training.tell(Stopped(error))
            raise
        finally:
            training.set_modes(training.model)
            if training.plan.cache is not None:
                training.plan.cache.close()
        training.end_problem()
        training.world.complete()
        training.tell(Finished(training.history[-1]))
        return result_of(training)

    def _epoch(self, epoch: int, interrupts: Interrupts) -> None:
        training, keeper, seed = self.training, self.keeper, self.training.seed
        first = training.step - epoch * training.steps_per_epoch
        if first == 0:
            # All that is random in an epoch follows from the seed and its number.
            seed_everything(derived_seed(seed, epoch))
            keeper.meter.reset()
        keeper.meter.began = time.monotonic()
        training.set_modes(training.problem.module)
        size, share = training.recipe.samples_per_update, training.world.share
        with timing("data"):
            batches = training.train_source.batches(size, derived_seed(seed, epoch), first, share)
        if first > 0:  # making the batches may have drawn random numbers
            restore_random_state(training.device, *keeper.random_state)
        for x, y in training.world.seeded(batches, seed, training.step):
            self._step(x, y, epoch)
            stop, save = training.world.agree(interrupts.asked, interrupts.asked or keeper.is_due)
            if save and training.step % training.steps_per_epoch:
                keeper.save()
                self._stop_if(stop)
        self._end_epoch(epoch)
        self._stop_if(*training.world.any_rank(interrupts.asked))

    def _step(self, x: Any, y: Tensor, epoch: int) -> None:
        training = self.training
        hooks, world, optimizer = training.hooks.values(), training.world, training.optimizer
        with timing("augmentation"):
            x, y = reduce(lambda batch, hook: hook.mix(*batch), hooks, (x, y))
        training.for_each(lambda hook: hook.before_step(training.step, x))
        rate = training.recipe.optimizer.lr * training.recipe.schedule.factor(training.progress)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        with timing("optimizer"):
            optimizer.zero_grad()
        samples = training.samples_of_step = training.batch or world.global_batch(len(y))
        is_first = training.step == 0 and world.parallel is None  # several processes have errors of their own
        fits = fitting(training.model, training.data, x, y) if is_first else nullcontext()
        with timing("forward"), fits:  # but for what `descend` counts as backward
            weighted = world.weighted(training.loss, weight_of(y, isinstance(x, dict)), samples)
            loss, outputs = training.backward(training.forward, x, y, weighted)
        training.counts_right &= y.ndim == 1 or not isinstance(x, dict)  # labels of tokens may be those that follow
        right = right_answers(outputs, y, training.data) if training.counts_right else torch.zeros_like(loss)
        with timing("hooks"):
            scalars = [hook.measure() for hook in hooks]
        sums = world.all_reduce(torch.stack([loss.double() / world.batch_shares, right.double()]))
        measured = [scalar.double().view(1) for part in scalars for scalar in part]
        value, right_count, *values = torch.cat([sums, *measured]).tolist()  # one wait for the device
        by_hook = [(hook, [values.pop(0) for _ in part]) for hook, part in zip(hooks, scalars, strict=True)]
        with timing("hooks"):
            for hook, part in by_hook:
                hook.check(value, loss, x, part)
            for hook, part in by_hook:
                hook.change_gradients(value, part)
        with timing("optimizer"):
            optimizer.step()
        training.for_each(lambda hook: hook.constrain())
        self.keeper.meter.count(value, right_count, samples)
        training.step += 1
        training.for_each(lambda hook: hook.after_step(value))
        training.tell(StepDone(training.step, epoch, value, rate))

    def _end_epoch(self, epoch: int) -> None:
        training, keeper = self.training, self.keeper
        judged, step, number = training.judged, training.step, training.number
        views = training.recipe.test_views if training.is_problem_done else 1
        training.evaluation = evaluation = training.evaluate(judged, training.test_source, views)
        check_weights(training.plan.saved, training.step)
        if evaluation is not None and not math.isfinite(evaluation.loss):
            raise NonFiniteLossError(f"the test loss is {evaluation.loss} after epoch {epoch + 1}.")
        with timing("hooks"):
            of_hooks = reduce(lambda record, hook: record | hook.after_epoch(judged), training.hooks.values(), {})
        loss, accuracy = keeper.meter.averages()
        record = training.world.on_main(
            lambda: {
                "epoch": epoch + 1,
                "step": step,
                **({"problem": number + 1} if len(training.plan.problems) > 1 else {}),
                "train_loss": loss,
                "train_accuracy": accuracy if training.counts_right else None,
                "test_loss": evaluation and evaluation.loss,
                "test_accuracy": evaluation and evaluation.accuracy,
                **({} if evaluation is None else evaluation.metrics),
                "seconds": keeper.meter.seconds,
                **of_hooks,
                **training.method.metrics(),
            }
        )
        training.history.append(record)
        keeper.log(record)
        training.tell(EpochDone(epoch, record))

    def _stop_if(self, is_asked: bool) -> None:
        if is_asked:
            self.training.world.unwrap()
            raise KeyboardInterrupt

    def _warn_of_modes(self) -> None:
        depends = BatchNorm, nn.Dropout, DropoutNd
        if self.training.was_in_evaluation and any(isinstance(m, depends) for m in self.training.model.modules()):
            self.training.tell(
                Warned(
                    "the model is in evaluation mode, and is trained in training mode, normalization and dropout too. "
                    "To keep a layer frozen: model.train(); layer.eval()."
                )
            )

    def _warn_of_uneven_shares(self) -> None:
        batch, count = self.training.batch, self.training.world.batch_shares
        if batch is not None and batch % count:
            self.training.tell(Warned(f"{count} processes share batches of {batch} unevenly, weighted by size."))

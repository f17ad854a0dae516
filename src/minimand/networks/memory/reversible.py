"""A stage that keeps its last state alone: its backward pass runs the steps back, and each block a second time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError, MisuseError
from ..._support.torch.internals import gradient_hooks_off
from ..._support.torch.places import Place, check_unwritten, cut_off, swapped, versions_of
from ...theory.dynamics.recurrence import Call, Recurrence
from ..realization.program import factor_of
from .arithmetic import Floats, States, Step, times
from .integers import Integers
from .replay import Precision, Run, buffers_of, first_run, parameters_of, second_run
from .scaled import Scalar

Ask = Callable[[int, str, Tensor], Tensor]
"""The answer of a block, by its layer, oracle and query."""
Module = Callable[[int, str], nn.Module]
Values = Mapping[str, tuple[Any, ...]]


class _Factors:
    """The factors of one call as functions of learnable and drawn coefficients."""

    def __init__(self, call: Call, t: int, run: Recurrence) -> None:
        numbers = [*call.gains, call.own, *call.lags.values()]
        self.numbers, self.functions = numbers, [factor_of(number) for number in numbers]
        self.blocks, self.lags = call.blocks, tuple(call.lags)
        p, start = run.longest, -1 if run.has_velocity else 0
        self.oldest = p if t - p >= start else None
        self.is_kept = t in run.kept

    def step(self, values: Sequence[Scalar]) -> Step:
        """The step by the values of the factors, in the order of `functions`; raises ZeroDivisionError for one of 0."""
        m = len(self.blocks)
        lags = dict(zip(self.lags, values[m + 1 :], strict=True))
        leaving = lags[self.oldest] if self.oldest is not None and not self.is_kept else 1.0
        if not (leaving.all() if isinstance(leaving, Tensor) else leaving):
            raise ZeroDivisionError
        own = values[m] if self.numbers[m] else None
        return Step(tuple(values[:m]), own, lags, self.oldest, self.is_kept)


@dataclass
class Pass:
    """One forward pass, and the backward pass that runs it back."""

    ask: Ask
    modules: list[list[nn.Module]]
    factors: list[_Factors]
    precision: Precision
    dtype: torch.dtype
    """The type in which blocks are asked."""
    exact: bool
    states: Any
    """The states, where the pass stands; None between its two passes."""
    steps: list[Step]
    runs: list[list[Run]]
    remainder: Callable[[Tensor], None]
    """A function that is called with what is left of the first step when it was run back."""

    def answers(self, t: int, query: Tensor) -> list[Tensor]:
        """The answers of the blocks of call t in the first run."""
        runs, answers = [], []
        with self.precision():
            for block, module in zip(self.factors[t].blocks, self.modules[t], strict=True):
                # A graph is made, and dropped, where the second run has to give the same bits: kernels may differ.
                with first_run(module, query.device) as run, torch.set_grad_enabled(self.exact):
                    point = query.to(self.dtype)
                    point = point.detach().requires_grad_() if self.exact else point
                    answers.append(self.ask(block.layer, block.oracle, point).detach())
                runs.append(run)
        self.runs.append(runs)
        return answers

    def multiplied(self, t: int, i: int, answers: Sequence[Tensor]) -> Tensor:
        """What factor i of call t multiplies, in the order of `_Factors.functions`, when the pass is back at t."""
        lag = i - len(answers) - 1
        if lag < 0:
            return answers[i].detach() if i < len(answers) else self.states.query
        return self.states.difference(self.factors[t].lags[lag] - 1)

    def again(self, t: int, query: Tensor, places: Sequence[Place], record: bool = True) -> tuple[Tensor, list[Tensor]]:
        """What blocks are asked at and their answers in the second run."""
        point = query.to(self.dtype).detach()
        answers = []
        with torch.set_grad_enabled(record), self.precision(), swapped(places):
            point.requires_grad_(record)
            for block, module, run in zip(self.factors[t].blocks, self.modules[t], self.runs[t], strict=True):
                with second_run(module, run):
                    answers.append(self.ask(block.layer, block.oracle, point))
        return point, answers


class _Step(torch.autograd.Function):
    """Call t: (q_t, d_(t-1), ...) to (q_(t+1), d_t)."""

    @staticmethod
    def forward(ctx: Any, run: Pass, t: int, places: Sequence[Place], lags: int, factors: int, *tensors: Any) -> Any:
        ctx.run, ctx.t, ctx.lags = run, t, lags
        ctx.places, ctx.versions = cut_off(places), versions_of(places)
        ctx.buffers = [place for module in run.modules[t] for place in buffers_of(module)]
        ctx.shapes = [f.shape if isinstance(f, Tensor) else () for f in tensors[1 + lags : 1 + lags + factors]]
        states = cast(States, run.states)
        query = states.query
        d = states.advance(run.steps[t], run.answers(t, query))
        after = states.query
        return after.view_as(after), d.clone() if d is query else d.view_as(d)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        run, t = cast(Pass, ctx.run), cast(int, ctx.t)
        if torch.is_grad_enabled():
            raise MisuseError(
                "a second derivative was asked for of a stage with memory='reversible', which has the first alone; "
                "expected a model with memory='store' or 'checkpoint'."
            )
        check_unwritten(ctx.places, ctx.versions)
        states, step = cast(States, run.states), run.steps[t]
        states.look_back()
        point, answers = run.again(t, states.query, [*ctx.places, *ctx.buffers])
        states.retreat(step, [answer.detach() for answer in answers])
        if t == 0 and isinstance(states, Floats) and states.remainder is not None:
            run.remainder(states.remainder)
        into_query, into_d = gradients
        g = into_query + into_d
        of_query, of_parameters = _through(point, answers, [times(g, gain) for gain in step.gains], ctx.places)
        of_query = into_query if of_query is None else into_query + of_query.to(g.dtype)
        if step.own is not None:
            of_query = of_query + times(g, step.own)
        of_lags = [times(g, step.lags[j]) if j in step.lags else None for j in range(1, ctx.lags + 1)]
        of_factors = [
            (g * run.multiplied(t, i, answers).to(g.dtype)).sum_to_size(shape) if is_needed else None
            for i, (shape, is_needed) in enumerate(zip(ctx.shapes, ctx.needs_input_grad[6 + ctx.lags :], strict=False))
        ]
        return (None, None, None, None, None, of_query, *of_lags, *of_factors, *of_parameters)


def _through(
    point: Tensor, answers: Sequence[Tensor], into: Sequence[Tensor], places: Sequence[Place]
) -> tuple[Tensor | None, Sequence[Tensor | None]]:
    """The gradients of what blocks were asked at and of their parameters, from those of their answers."""
    # Of a parameter in several places the first one gets it all.
    trained = {id(p): i for i, (_, _, p) in reversed([*enumerate(places)]) if p.requires_grad}.values()
    inputs = [point, *(places[i][2] for i in trained)]
    pairs = [(a, g.to(a.dtype)) for a, g in zip(answers, into, strict=True) if a.requires_grad]
    if not pairs:
        return None, [None] * len(places)
    outputs, weights = zip(*pairs, strict=True)
    with gradient_hooks_off(inputs):  # they see the sum of all gradients, later
        of_query, *of_trained = torch.autograd.grad(outputs, inputs, weights, allow_unused=True)
    of_parameters: list[Tensor | None] = [None] * len(places)
    for i, gradient in zip(trained, of_trained, strict=True):
        of_parameters[i] = gradient
    return of_query, of_parameters


class _Last(torch.autograd.Function):
    """The last state, which is kept: from it the backward pass begins, as often as it is run."""

    @staticmethod
    def forward(ctx: Any, run: Pass, *state: Tensor) -> Any:
        outputs = [run.states.query, *(run.states.difference(i) for i in range(len(state) - 1))]
        # Saved as autograd does, which lets go of it where the graph is not kept.
        tensors, ctx.unpacked = run.states.packed()
        ctx.save_for_backward(*tensors)
        ctx.run, run.states = run, None
        return tuple(x.view_as(x) for x in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        ctx.run.states = ctx.unpacked(ctx.saved_tensors)
        return None, *gradients


class Reversible:
    """Runs a stage forward so that its backward pass runs it back."""

    def __init__(self, run: Recurrence) -> None:
        self.recurrence = run
        self.factors = [_Factors(call, t, run) for t, call in enumerate(run.calls)]
        self.first = {i: factor_of(number) for i, number in run.first.items()}
        self.output, self.output_lags = factor_of(run.output), {j: factor_of(c) for j, c in run.output_lags.items()}

    def __call__(
        self,
        ask: Ask,
        module: Module,
        inputs: Sequence[Tensor],
        values: Values,
        exact: bool,
        remainder: Callable[[Tensor], None],
    ) -> Tensor:
        """The output for inputs, by a graph whose backward pass runs back; `remainder` is told what that left."""
        run = self.begin(ask, module, inputs, values, exact)
        run.remainder = remainder
        query, differences = self._start(inputs, values)
        p = self.recurrence.longest
        for t, call in enumerate(self.factors):
            factors = [function(values) for function in call.functions]
            places = [place for m in run.modules[t] for place in parameters_of(m)]
            parameters = [parameter for _, _, parameter in places]
            window = differences[:p]
            query, d = _Step.apply(run, t, places, len(window), len(factors), query, *window, *factors, *parameters)
            differences = [d, *window]
        checked = run.states.checked
        query, *differences = _Last.apply(run, query, *differences[:p])
        output = query if self.recurrence.output.same(1) else query * self.output(values)
        for j, factor in self.output_lags.items():
            output = output + factor(values) * differences[j - 1]
        return checked(output).to(inputs[0].dtype)

    def begin(self, ask: Ask, module: Module, inputs: Sequence[Tensor], values: Values, exact: bool) -> Pass:
        """A pass that stands at its first state."""
        query, differences = self._start([x.detach() for x in inputs], values)
        try:
            steps = [call.step([_plain(f(values)) for f in call.functions]) for call in self.factors]
        except ZeroDivisionError:
            raise MinimandError(
                "a momentum is 0, so that its step forgets where it came from; expected others, of a learned one a "
                "lower bound above 0, as in Learnable(0.9, 0.1, 1), or memory='checkpoint'."
            ) from None
        states = Integers(query.detach(), differences, query.dtype) if exact else Floats(query.detach(), differences)
        modules = [[module(block.layer, block.oracle) for block in call.blocks] for call in self.recurrence.calls]
        precision = Precision(query.device)
        return Pass(ask, modules, self.factors, precision, inputs[0].dtype, exact, states, steps, [], lambda _: None)

    def _start(self, inputs: Sequence[Tensor], values: Values) -> tuple[Tensor, list[Tensor]]:
        """The first query, and the differences before it."""
        wide = [x.to(torch.promote_types(x.dtype, torch.float32)) for x in inputs]
        first = self.recurrence.first
        terms = [wide[i] if first[i].same(1) else wide[i] * factor(values) for i, factor in self.first.items()]
        return sum(terms[1:], start=terms[0]), wide[1:]


def _plain(factor: Scalar) -> Scalar:
    return factor.detach() if isinstance(factor, Tensor) else factor

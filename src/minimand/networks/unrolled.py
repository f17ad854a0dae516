"""An algorithm run for L steps with L blocks: one stage of a network, tensor to tensor."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm, as_algorithm
from ..algorithms._coefficient import Learned
from ..theory.kernel import Binding, check_binding, exactly
from ..theory.symbols import Number, UnknownCoefficientError
from .realization import Add, Ask, Program, Scale, cheapest_program, is_interpolation

Factor = float | Tensor
Blocks = Iterable[nn.Module] | Iterable[Mapping[str, nn.Module]]


class Unrolled(nn.Module):
    """A stage: tensor to tensor of the same shape, by the cheapest realization of the algorithm.

    `layers` are the same steps as the algorithm writes them, state to state, with the same blocks; both paths
    agree up to rounding.
    """

    def __init__(self, algorithm: Algorithm, blocks: Blocks, binding: Binding) -> None:
        super().__init__()
        check_binding(binding)
        self.algorithm = algorithm
        self.binding: Binding = binding
        modules = [_as_block(block, k, algorithm) for k, block in enumerate(blocks)]
        if not modules:
            raise ValueError("blocks is empty; expected one block per layer.")
        implicit = [oracle for oracle in algorithm.oracles if oracle.startswith("prox")]
        if implicit:
            raise ValueError(
                f"{type(algorithm).__name__} asks the oracle {implicit[0]!r}, whose answer depends on the new "
                "iterate: its network is implicit and cannot be unrolled; `mm.certify` reads it."
            )
        self.coefficients = nn.ParameterDict(
            {
                name: nn.Parameter(torch.full((len(modules),), float(c.initial)))
                for name, c in algorithm.learnable().items()
            }
        )
        self._bounds = {name: (float(c.low), float(c.high)) for name, c in algorithm.learnable().items()}
        self.layers = nn.ModuleList(Layer(module, k, self) for k, module in enumerate(modules))
        self._program = _compiled(algorithm, len(modules), binding)

    def forward(self, x: Tensor) -> Tensor:
        """The stage's output, from its input."""
        if self._program is None:
            state = self.start(x)
            for layer in self.layers:
                state = layer(state)
            return self.read(state)
        registers: list[Any] = [None] * self._program.registers
        registers[0] = x
        learned = self._values() if self._bounds else {}
        for run, target, dead in self._program.passes:
            registers[target] = run(self, registers, learned)
            for register in dead:
                registers[register] = None
        return registers[self._program.output]

    def start(self, x: Tensor) -> Any:
        """The first state, from the stage's input."""
        return self.bound().start(x)

    def read(self, state: Any) -> Tensor:
        """The stage's output, from its last state; at an earlier one, what a probe looks at."""
        return self.bound().read(state)

    def bound(self) -> Algorithm:
        """The algorithm with the parameters of this stage as its learnable coefficients."""
        if not self._bounds:
            return self.algorithm
        values = self._values()
        return self.algorithm.rebind(**{name: _entry(values[name]) for name in self.coefficients})

    def learned(self) -> Algorithm:
        """The algorithm with the current values of its coefficients as numbers, to certify."""
        if not self._bounds:
            return self.algorithm
        values = {name: vector.detach().tolist() for name, vector in self._clamped().items()}
        return self.algorithm.rebind(
            **{n: Learned(c.initial, c.low, c.high, tuple(values[n])) for n, c in self.algorithm.learnable().items()}
        )

    @torch.no_grad()
    def project(self) -> None:
        """Bring the learnable coefficients back within their bounds; training does so after each step."""
        for name, (low, high) in self._bounds.items():
            self.coefficients[name].clamp_(low, high)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_program": None}  # closures cannot be pickled; they are made again

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._program = _compiled(self.algorithm, len(self.layers), self.binding)

    def extra_repr(self) -> str:
        return f"{self.algorithm}, binding={self.binding!r}"

    def _clamped(self) -> dict[str, Tensor]:
        found = {}
        for name, (low, high) in self._bounds.items():
            vector = self.coefficients[name]
            # The gradient passes the clamp, or a coefficient at its bound could never leave it.
            found[name] = vector + (vector.clamp(low, high) - vector).detach()
        return found

    def _values(self) -> dict[str, tuple[Tensor, ...]]:
        return {name: vector.unbind() for name, vector in self._clamped().items()}


class Layer(nn.Module):
    """Step k of a stage as the algorithm writes it: state to state. The block is the learnable T."""

    def __init__(self, block: nn.Module, k: int, stage: Unrolled) -> None:
        super().__init__()
        self.block = block
        self.k = k
        # In a tuple, so that the stage, which holds this layer, does not become its submodule.
        self._stage = (stage,)

    def forward(self, state: Any) -> Any:
        (stage,) = self._stage
        return stage.bound().step(
            state, *[self._oracle(name, stage.binding) for name in stage.algorithm.oracles], self.k
        )

    def _oracle(self, name: str, binding: Binding) -> Callable[[Tensor], Tensor]:
        def gradient(x: Tensor) -> Tensor:
            answer = ask(self.block, name, x, self.k)
            return -answer if binding == "residual" else x - answer

        return gradient


def unroll(algorithm: Algorithm | str, blocks: Blocks, binding: Binding = "residual") -> Unrolled:
    """The network that runs an algorithm for as many steps as there are blocks.

    Args:
        algorithm: a first-order method, or its name.
        blocks: one module per layer, each keeping the shape of its input; for a step that asks several
            oracles, one mapping from the oracles' names to modules per layer.
        binding: `residual`, gradient(x) = -T(x), so that gradient descent is ResNet; `operator`,
            gradient(x) = x - T(x), so that gradient descent is a plain feedforward net.

    Raises:
        ValueError: no blocks, or blocks that do not answer to the oracles; at the first call, a block that
            changes the shape.
    """
    return Unrolled(as_algorithm(algorithm), blocks, binding)


def ask(block: nn.Module, oracle: str, x: Tensor, layer: int) -> Tensor:
    """T(x) of one layer; raises ValueError if the block changes the shape."""
    module = block[oracle] if isinstance(block, nn.ModuleDict) else block
    answer = module(x)
    if answer.shape != x.shape:
        raise ValueError(
            f"block {layer} ({type(module).__name__}) maps {tuple(x.shape)} to {tuple(answer.shape)}; a block has "
            "to keep the shape. Change shapes between stages."
        )
    return answer


def _as_block(block: Any, k: int, algorithm: Algorithm) -> nn.Module:
    oracles = algorithm.oracles
    if isinstance(block, nn.Module) and not isinstance(block, nn.ModuleDict) and len(oracles) == 1:
        return block
    if isinstance(block, Mapping | nn.ModuleDict) and set(block) == set(oracles):
        return nn.ModuleDict(dict(block.items()))
    expected = "a module" if len(oracles) == 1 else f"a mapping with a module for each of {', '.join(oracles)}"
    raise ValueError(f"blocks[{k}] is {type(block).__name__}; {type(algorithm).__name__} expects {expected}.")


def _entry(vector: tuple[Tensor, ...]) -> Callable[[int], Tensor]:
    # Steps may look one ahead, as y_next = x_next + m(k + 1) (...) does; the last value then serves again.
    return lambda k: vector[min(k, len(vector) - 1)]


class _Compiled:
    """A program with its factors as floats or as functions of the learnable coefficients."""

    def __init__(self, program: Program) -> None:
        self.output = program.output
        self.registers = 1 + max((i.target for i in program.instructions), default=0)
        self.passes = [
            (_runner(instruction), instruction.target, dead)
            for instruction, dead in zip(program.instructions, program.last_uses(), strict=True)
        ]


def _compiled(algorithm: Algorithm, depth: int, binding: Binding) -> _Compiled | None:
    """The cheapest program; None where the step branches on, or divides by, a learnable coefficient."""
    unknown = {name: _unknown(name, depth) for name in algorithm.learnable()}
    try:
        return _Compiled(cheapest_program(exactly(algorithm.rebind(**unknown)), depth, binding))
    except UnknownCoefficientError:
        return None


def _unknown(name: str, depth: int) -> Callable[[int], Number]:
    return lambda k: Number.unknown((name, min(k, depth - 1)))


Runner = Callable[[Unrolled, list[Tensor], dict[str, tuple[Tensor, ...]]], Tensor]


def _runner(instruction: Ask | Add | Scale) -> Runner:
    match instruction:
        case Ask(_, layer, oracle, point):
            return lambda stage, r, _: ask(cast(Layer, stage.layers[layer]).block, oracle, r[point], layer)
        case Scale(_, source, factor):
            value = _factor(factor)
            return lambda _, r, learned: r[source] * value(learned)
        case Add(_, left, right, a, b):
            if is_interpolation(instruction) and not (a.same(0) or b.same(0) or a.same(1) or b.same(1)):
                weight = _factor(b)
                return lambda _, r, learned: _lerp(r[left], r[right], weight(learned))
            if a.same(1):
                factor = _factor(b)
                return lambda _, r, learned: _add(r[left], r[right], factor(learned))
            if b.same(1):
                factor = _factor(a)
                return lambda _, r, learned: _add(r[right], r[left], factor(learned))
            first, second = _factor(a), _factor(b)
            return lambda _, r, learned: _add(r[left] * first(learned), r[right], second(learned))


def _factor(number: Number) -> Callable[[dict[str, tuple[Tensor, ...]]], Factor]:
    if number.is_constant:
        value = float(number)
        return lambda _: value
    terms = [(float(c), monomial) for monomial, c in number.terms.items()]

    def evaluate(learned: dict[str, tuple[Tensor, ...]]) -> Tensor:
        total: Any = 0.0
        for c, monomial in terms:
            product: Any = c
            for unknown, power in monomial:
                name, k = cast(tuple[str, int], unknown)
                product = product * learned[name][k] ** power
            total = total + product
        return total

    return evaluate


def _add(u: Tensor, v: Tensor, factor: Factor) -> Tensor:
    """u + factor v, in one pass."""
    if isinstance(factor, Tensor):
        return torch.addcmul(u, v, factor.to(v.dtype)) if u.dtype == v.dtype else u + factor * v
    return u + v if factor == 1.0 else torch.add(u, v, alpha=factor)


def _lerp(u: Tensor, v: Tensor, weight: Factor) -> Tensor:
    """(1 - weight) u + weight v, in one pass."""
    if u.dtype != v.dtype:  # under autocast a block may answer in another precision
        common = torch.promote_types(u.dtype, v.dtype)
        u, v = u.to(common), v.to(common)
    return torch.lerp(u, v, weight.to(u.dtype) if isinstance(weight, Tensor) else weight)

"""An algorithm run for L steps with L blocks: one stage of a network, tensor to tensor."""

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import zip_longest
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from .._support.errors import MinimandError
from .._support.torch.internals import version
from ..algorithms import Algorithm, as_algorithm, is_map, is_proximal, leaves
from ..blocks.proximal import Prox
from ..blocks.registry import as_block
from ..theory.kernel import Binding, check_binding, exactly
from ..theory.scalars import UnknownCoefficientError
from .coefficients import Coefficients, Values
from .memory.checkpointed import checkpointed
from .memory.choice import Memory, backward_recurrence, check_memory
from .memory.controller import Backwards
from .memory.rerunning import Rerunning
from .realization.cheapest import cheapest_program
from .realization.program import Execution

Blocks = Iterable[nn.Module | str | Mapping[str, nn.Module | str]]
"""One block per layer, or for a step that asks several oracles a mapping from their names to blocks."""


class Unrolled(nn.Module, Rerunning):
    """A stage: tensor to tensor of the same shape, by the cheapest realization of the algorithm.

    `layers` are the same steps as the algorithm writes them, state to state, with the same blocks; both paths
    agree up to rounding. Calling the stage runs the blocks, not the layers: hooks belong on `layers[k].block`.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        blocks: Blocks,
        binding: Binding,
        memory: Memory = "store",
        exact: bool | None = None,
    ) -> None:
        super().__init__()
        check_binding(binding)
        check_memory(memory, exact)
        self.memory: Memory = memory
        self.exact = exact
        self.algorithm = algorithm
        self.binding: Binding = binding
        if isinstance(blocks, str) or not isinstance(blocks, Iterable):
            raise MinimandError(f"blocks is {type(blocks).__name__}; expected a list of modules, one per layer.")
        modules = [_as_block(block, k, algorithm, binding) for k, block in enumerate(blocks)]
        if not modules:
            raise MinimandError("blocks is empty; expected one block per layer.")
        self._tensors = Coefficients(algorithm, len(modules))
        self.coefficients = nn.ParameterDict(self._tensors.initial())
        self.layers = nn.ModuleList(UnrolledLayer(module, k, self) for k, module in enumerate(modules))
        self._execution = program_of(algorithm, len(modules), binding)
        if self._execution is None and self._tensors.learnable:
            self._check_that_coefficients_learn()
        self._backwards = self._made_backwards()

    def forward(self, x: Any) -> Tensor:
        """The output for an input, (x, velocity) where the algorithm starts from two: tensors of one shape."""
        inputs = self._inputs(x)
        if self._backwards is not None and self._runs_back(inputs):
            return cast(Any, self)._run_back(self._backwards, inputs)  # typed Any: torch's decorator has no types
        checkpoints = self.memory == "checkpoint" and self.reruns(inputs[0])
        if self._execution is None:
            return self._as_written(inputs, checkpoints)
        ask = self._ask_checkpointed if checkpoints else self._ask
        return self._execution(ask, inputs, self._values(inputs[0]) if self._tensors.names else {})

    def _as_written(self, inputs: tuple[Tensor, ...], checkpoints: bool) -> Tensor:
        """The output by the layers, which share one evaluation of the coefficients, and one draw."""
        names = self._tensors.names
        algorithm = self._tensors.bound(self._values(inputs[0])) if names else self._tensors.in_floats
        state = algorithm.start(*inputs)
        for layer in self.layers:
            call = partial(layer, algorithm=algorithm)
            state = checkpointed(layer, call, state) if checkpoints else call(state)
        return algorithm.read(state)

    def start(self, x: Any) -> Any:
        """The first state, from the stage's input, or inputs in a tuple."""
        inputs = self._inputs(x)
        return self.bound(inputs[0]).start(*inputs)

    def read(self, state: Any) -> Tensor:
        """The stage's output, from its last state; at an earlier one, what a probe looks at."""
        return self.bound(leaves(state)[0]).read(state)

    def _inputs(self, x: Any) -> tuple[Tensor, ...]:
        inputs = tuple(x) if isinstance(x, tuple | list) else (x,)
        names = self.algorithm.inputs
        if len(inputs) != len(names):
            received = f"{len(inputs)} tensors" if len(inputs) > 1 else "one tensor"
            raise MinimandError(
                f"a stage of {self.algorithm} was given {received}; expected {len(names)}: ({', '.join(names)})."
            )
        return inputs

    @property
    def blocks(self) -> list[nn.Module]:
        """The block of each layer; an nn.ModuleDict where a step asks several oracles."""
        return [cast(UnrolledLayer, layer).block for layer in self.layers]

    @property
    def roundoff(self) -> float | None:
        """The relative error of the first state when the stage was run back in floating point, at its first call.

        None of a stage that does not run backwards, or has not yet, or is exact.
        """
        return None if self._backwards is None else self._backwards.roundoff

    def bound(self, like: Tensor | None = None) -> Algorithm:
        """The algorithm with the tensors of this stage as its coefficients, for one step on states like a tensor."""
        if not self._tensors.names:
            return self._tensors.in_floats
        return self._tensors.bound_by_layer(self._vectors(), like, self.training)

    def learned(self) -> Algorithm:
        """The algorithm with the current values of its coefficients as numbers, to certify."""
        return self._tensors.learned(self._vectors())

    def without_layers(self) -> Self:
        """The stage without its layers and with coefficients of its own: what copies of single layers refer to."""
        twin = type(self).__new__(type(self))
        nn.Module.__init__(twin)
        vars(twin).update({name: value for name, value in vars(self).items() if name not in vars(twin)})
        twin.coefficients, twin.layers, twin._execution = copy.deepcopy(self.coefficients), nn.ModuleList(), None
        twin._backwards = None
        return twin

    def project(self) -> None:
        """Bring the learnable coefficients back within their bounds; training does so after each step."""
        self._tensors.project(self._vectors())

    def __getstate__(self) -> dict[str, Any]:
        # Closures cannot be pickled; they are made again.
        return {**self.__dict__, "_execution": None, "_backwards": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._execution = program_of(self.algorithm, len(self.layers), self.binding)
        self._backwards = self._made_backwards()

    def extra_repr(self) -> str:
        exact = "" if self.exact is None else f", exact={self.exact}"
        memory = "" if self.memory == "store" else f", memory={self.memory!r}{exact}"
        return f"{self.algorithm}, binding={self.binding!r}{memory}"

    def _made_backwards(self) -> Backwards | None:
        if self.memory != "reversible" or not len(self.layers):
            return None
        return Backwards(backward_recurrence(self.algorithm, len(self.layers), self.binding), self.exact)

    def _runs_back(self, inputs: tuple[Tensor, ...]) -> bool:
        """Whether a gradient may be asked for. Drawn coefficients at rest have other steps, which may lose a state."""
        return self.reruns(inputs[0]) and (self.training or not self._tensors.drawn)

    @torch.compiler.disable
    def _run_back(self, backwards: Backwards, inputs: tuple[Tensor, ...]) -> Tensor:
        return backwards(self._ask, self._module, inputs, self._values(inputs[0]) if self._tensors.names else {})

    def _module(self, layer: int, oracle: str) -> nn.Module:
        block = cast(UnrolledLayer, self.layers[layer]).block
        return block[oracle] if isinstance(block, nn.ModuleDict) else block

    def _check_that_coefficients_learn(self) -> None:
        """A step that turns a coefficient into a plain number, by math.sqrt say, would never train it."""
        vectors = {name: vector.detach().requires_grad_() for name, vector in self._vectors().items()}
        algorithm = self._tensors.bound(self._tensors.values(vectors))
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # torch warns of the very conversion that is looked for here
            state = algorithm.start(*[torch.ones(())] * len(algorithm.inputs))
            for k in range(len(self.layers)):
                state = algorithm.step(state, *map(_shrinking, algorithm.oracles), k)
            output = algorithm.read(state)
        gradients = ()
        if output.requires_grad:
            gradients = torch.autograd.grad(output.sum(), list(vectors.values()), allow_unused=True)
        deaf = [name for name, gradient in zip_longest(vectors, gradients) if gradient is None]
        if deaf:
            raise MinimandError(
                f"{type(self.algorithm).__name__}.{deaf[0]} is learnable, but no gradient reaches it: the steps turn "
                "it into a plain number, as math.sqrt does (write m ** 0.5), or do not use it."
            )

    def _ask(self, layer: int, oracle: str, x: Tensor) -> Tensor:
        return ask(cast(UnrolledLayer, self.layers[layer]).block, oracle, x, layer)

    def _ask_checkpointed(self, layer: int, oracle: str, x: Tensor) -> Tensor:
        return checkpointed(self._module(layer, oracle), lambda x: self._ask(layer, oracle, x), x)

    def _vectors(self) -> dict[str, Tensor]:
        return {name: self.coefficients[name] for name in self.coefficients}

    def _values(self, like: Tensor | None) -> Values:
        return self._tensors.values(self._vectors(), like, self.training)


class UnrolledLayer(nn.Module):
    """Step k of a stage as the algorithm writes it: state to state. Its block is the learnable T."""

    stage: Unrolled

    def __init__(self, block: nn.Module, k: int, stage: Unrolled) -> None:
        super().__init__()
        self.block = block
        self.k = k
        # No submodule, as the stage holds this layer.
        self.__dict__["stage"] = stage

    def forward(self, state: Any, algorithm: Algorithm | None = None) -> Any:
        """The state after step k; the stage gives the algorithm with the coefficients of a whole pass."""
        oracles = [self._oracle(name, self.stage.binding) for name in self.stage.algorithm.oracles]
        algorithm = self.stage.bound(leaves(state)[0]) if algorithm is None else algorithm
        return algorithm.step(state, *oracles, self.k)

    def _oracle(self, name: str, binding: Binding) -> Callable[..., Tensor]:
        def gradient(x: Tensor) -> Tensor:
            answer = ask(self.block, name, x, self.k)
            return -answer if binding == "residual" else x - answer

        def prox(x: Tensor, step_size: float | Tensor) -> Tensor:
            if not isinstance(step_size, Tensor) and not step_size > 0:
                raise MinimandError(
                    f"step {self.k} asks {name} with the step size {step_size:g}; expected more than 0."
                )
            return ask(self.block, name, x, self.k, step_size)

        def known(x: Tensor) -> Tensor:
            return ask(self.block, name, x, self.k)

        return known if is_map(name) else prox if is_proximal(name) else gradient


def unroll(
    algorithm: Algorithm | str,
    blocks: Blocks,
    binding: Binding = "residual",
    memory: Memory = "store",
    exact: bool | None = None,
) -> Unrolled:
    """The network that runs an algorithm for as many steps as there are blocks.

    Args:
        algorithm: a first-order method, or its name.
        blocks: one module per layer, or the name of one such as "two_layer(width=6)", each keeping the shape of its
            input; for a step that asks several oracles, one mapping from the oracles' names to modules per layer. A
            map oracle, such as `normalize`, is answered by its module as it is.
        binding: `residual`, gradient(x) = -T(x), so that gradient descent is ResNet; `operator`,
            gradient(x) = x - T(x), so that gradient descent is a plain feedforward net.
        memory: what is kept for the backward pass: `store`, all; `checkpoint`, what each block was asked at, to run it
            again; `reversible`, the last state, from which an algorithm that runs backwards in closed form runs back.
        exact: with `reversible`, whether states are kept to the last bit, as integers times a factor;
            by default where rounding could put gradients off by more than 1e-3, by a measurement at the first call.

    Blocks that do not answer to the oracles (`mm.blocks.Prox` does to a `prox`) are an error, and at the first call a
    block that changes the shape.
    """
    return Unrolled(as_algorithm(algorithm), blocks, binding, memory, exact)


def ask(block: nn.Module, oracle: str, x: Tensor, layer: int, *step_size: float | Tensor) -> Tensor:
    """T(x) of one layer; raises MinimandError if the block changes the shape."""
    module = block[oracle] if isinstance(block, nn.ModuleDict) else block
    if isinstance(x, Proxy):  # torch.fx reads the network: there is nothing to check
        return module(x, *step_size)
    before = version(x)
    answer = module(x, *step_size)
    if version(x) != before:
        why = "writes into its input, which the algorithm still needs. Build its first operation without inplace=True."
    elif not isinstance(answer, Tensor):
        why = f"returned {type(answer).__name__}; a block has to return a tensor."
    elif answer.shape != x.shape:
        shapes = f"{tuple(x.shape)} to {tuple(answer.shape)}"
        why = f"maps {shapes}; a block has to keep the shape. Change shapes between stages."
    else:
        return answer
    raise MinimandError(f"block {layer} ({type(module).__name__}) {why}")


def _as_block(block: Any, k: int, algorithm: Algorithm, binding: Binding) -> nn.Module:
    oracles = algorithm.oracles
    named = isinstance(block, Mapping | nn.ModuleDict)
    answers = {name: as_block(module) for name, module in block.items()} if named else {oracles[0]: as_block(block)}
    if set(answers) != set(oracles) or not all(isinstance(module, nn.Module) for module in answers.values()):
        expected = "a module" if len(oracles) == 1 else f"a mapping with a module for each of {', '.join(oracles)}"
        received = f"a mapping of {', '.join(map(str, answers))}" if named else type(block).__name__
        raise MinimandError(f"blocks[{k}] is {received}; {type(algorithm).__name__} expects {expected}.")
    for oracle, module in answers.items():
        if not is_proximal(oracle):
            if isinstance(module, Prox):
                raise MinimandError(
                    f"blocks[{k}] answers {oracle!r} with {type(module).__name__}, which answers a prox; expected "
                    "a block T, or an algorithm that asks a prox, such as proximal_point or proximal_gradient."
                )
            continue
        if not isinstance(module, Prox):
            raise MinimandError(
                f"blocks[{k}] answers {oracle!r} with {type(module).__name__}; expected an mm.blocks.Prox, such as "
                "mm.blocks.SoftThreshold or mm.blocks.LearnedProx, or mm.Implicit(block), whose answer depends on the "
                "new iterate."
            )
        if module.binding not in (None, binding):
            raise MinimandError(
                f"blocks[{k}] answers {oracle!r} for the binding {module.binding!r}, but the network's is {binding!r}; "
                f"expected mm.Implicit(block, binding={binding!r})."
            )
    return nn.ModuleDict(answers) if named else answers[oracles[0]]


def _shrinking(oracle: str) -> Callable[..., Tensor]:
    return (lambda x, step_size: x / (1 + step_size)) if is_proximal(oracle) else (lambda x: 0.5 * x)


def program_of(algorithm: Algorithm, depth: int, binding: Binding) -> Execution | None:
    """The cheapest program; None where the step asks a prox, or needs the value of a learnable coefficient."""
    if any(map(is_proximal, algorithm.oracles)):
        return None
    try:
        return Execution(cheapest_program(exactly(Coefficients(algorithm, depth).unknown()), depth, binding))
    except UnknownCoefficientError:
        return None

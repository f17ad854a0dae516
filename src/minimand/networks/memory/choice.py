"""The words for what is kept for the backward pass, and which of them fit an algorithm."""

from typing import Literal, get_args

from ..._support.errors import MinimandError, WrongTypeError, unknown_name
from ...algorithms import Algorithm, leaves
from ...theory.dynamics.inverse import inverse
from ...theory.dynamics.recurrence import NoRecurrenceError, Recurrence, recurrence
from ...theory.dynamics.stability import tail
from ...theory.oracles import Binding, exactly, extended
from ...theory.steps import Steps
from ..coefficients import Coefficients

Memory = Literal["store", "checkpoint", "reversible"]
"""What a stage keeps of its forward pass: all activations; what each block was asked at, from which a block is run
again in the backward pass; or the last state alone, from which the steps run backwards."""

_SHOWN = 16
_KEPT = 1 / 8  # the share of states that may be kept, as where a momentum is 0


def check_memory(memory: object, exact: object) -> None:
    """Raise MinimandError unless the words fit together."""
    if memory not in get_args(Memory):
        raise unknown_name("memory", str(memory), get_args(Memory))
    if exact is not None and not isinstance(exact, bool):
        raise WrongTypeError(f"exact is {exact!r}; expected None, True or False.")
    if exact is not None and memory != "reversible":
        raise MinimandError(f"exact is {exact}, but memory is {memory!r}; expected exact=None, or memory='reversible'.")


def backward_recurrence(algorithm: Algorithm, depth: int, binding: Binding) -> Recurrence:
    """The recurrence by which the queries of a stage run backwards.

    Raises:
        MinimandError: an algorithm whose steps do not; the message has the condition and what works instead.
    """
    if depth == 1:  # from one layer everything comes back, from more of the same it may not
        backward_recurrence(algorithm, 2, binding)
    why = "; too many of its states would have to be kept"
    try:
        if Steps(algorithm).grows:
            raise NoRecurrenceError("its memory grows with depth")
        run = recurrence(exactly(Coefficients(algorithm, depth).unknown()), depth, binding)
    except NoRecurrenceError as error:
        why = f": {error}"
    else:
        stored, calls = len(run.kept), len(run.calls)
        # The state has no more tensors than the algorithm's.
        is_short = run.longest < max(2, len(leaves(algorithm.start_alone(0.0))))
        if is_short and 2 * stored < calls and stored <= max(1, _KEPT * calls):
            return run
    raise MinimandError(
        f"memory is 'reversible', but {algorithm} does not run backwards in closed form{why}. Its inverse: "
        f"{_condition(algorithm, depth, binding)}. Expected an algorithm such as heavy_ball(momentum=0.9), "
        "momentum_residual, leapfrog or bdia, or memory='checkpoint', which takes any."
    )


def _condition(algorithm: Algorithm, depth: int, binding: Binding) -> str:
    depth = min(depth, _SHOWN)  # the first layers suffice, as what holds of all holds of them
    steps = Steps(extended(algorithm, depth))
    return str(inverse(steps, depth, binding, tail(steps, depth)))

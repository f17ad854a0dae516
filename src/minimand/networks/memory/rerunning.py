"""Parts of a model that run layers again in the backward pass, and not while the model is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ...equilibrium import Equilibrium
from .checkpointed import keeps_a_graph


class Rerunning:
    """A base of what may run layers a second time in the backward pass, so as to keep less of the first."""

    stores_all: bool = False
    """Whether everything is kept, whatever `memory` says, so that each layer runs once."""

    def reruns(self, x: Any) -> bool:
        """Whether a call with x may run layers again: where its backward pass can be asked for, and not all is kept."""
        return not self.stores_all and keeps_a_graph(x)


@contextmanager
def storing_all(model: nn.Module) -> Iterator[None]:
    """A context in which all parts of a model keep everything: hooks on a layer are called once, with a graph.

    An equilibrium that runs its steps back has the gradient of its solution instead, through one call of its block.
    """
    candidates = (part for module in model.modules() for part in (module, vars(module).get("forward")))
    before = {part: part.stores_all for part in candidates if isinstance(part, Rerunning)}
    gradients = {part: part.gradient for part in model.modules() if isinstance(part, Equilibrium)}
    for part in before:
        part.stores_all = True
    for layer, gradient in gradients.items():
        layer.gradient = gradient.of_one_call
    try:
        yield
    finally:
        for layer, gradient in gradients.items():
            layer.gradient = gradient
        for part, stored in before.items():
            part.stores_all = stored

"""`minimand certify`: what the networks of algorithms can express, and whether they are stable and reversible."""

from pathlib import Path
from typing import ClassVar

from rich.console import Console
from tyro.conf import Positional

from ..._support.errors import MinimandError
from ..._support.tables import make_table
from ...theory.kernel import Binding
from ...theory.splitting import Splitting
from ..options import Pair, Text, Whole
from ..shared import save_figure
from ._registry import command


@command("certify")
class Certify:
    """Certify algorithms: consistency, stability, order, gains, inverse, universality."""

    takes: ClassVar[tuple[str, ...]] = ("algorithms",)
    algorithm: Positional[tuple[str, ...]]
    """Names, with coefficients if need be, or path/to/file.py:MyMethod; of a file only what the class needs is run."""
    depth: int = 20
    """The number of layers of the network."""
    binding: Binding = "residual"
    """How a block becomes a gradient."""
    width: Whole = None
    """The size of the state; a size that is left out becomes a proviso."""
    d_in: Whole = None
    """The size of the input, a length."""
    d_out: Whole = None
    """The size of the output, a length."""
    rate: Pair = None
    """MU L: also find the worst case over MU-strongly convex, L-smooth functions."""
    splitting: Splitting | None = None
    """The way a transformer's layers are cut into blocks: lie_trotter makes two steps a layer."""
    plot: Text = None
    """Write the poles, gains and wiring of each algorithm to this folder."""

    def __call__(self, console: Console) -> None:
        from ..._support.names.calls import file_name
        from ...algorithms import as_algorithm, specification
        from ...theory.certificate import certify

        if not self.algorithm:
            raise MinimandError(
                "no algorithm to certify; expected names (minimand list algorithms) or file.py:MyMethod."
            )
        taken: set[str] = set()
        _check_that_none_is_a_model(self.algorithm)
        for i, algorithm in enumerate(map(as_algorithm, self.algorithm)):
            sizes = (self.width, self.d_in, self.d_out)
            certificate = certify(algorithm, self.depth, self.binding, *sizes, rate=self.rate, splitting=self.splitting)
            if i:
                console.print()
            console.print(make_table(["", "", ""], certificate.rows(), certificate.title))
            if self.plot:
                Path(self.plot).mkdir(parents=True, exist_ok=True)
                whole = specification(algorithm)
                short = file_name(whole.partition("(")[0])
                name = file_name(whole) if short in taken else short
                taken.add(name)
                save_figure(certificate.plot(), Path(self.plot) / f"{name}.svg", console)


def _check_that_none_is_a_model(names: tuple[str, ...]) -> None:
    """Raise MinimandError for the name of a model, with the algorithm whose certificate is its."""
    from ...algorithms import ALGORITHMS
    from ...models.info import MODELS

    for name in names:
        info = MODELS.get(name.partition("(")[0])
        if info is None or name.partition("(")[0] in ALGORITHMS:
            continue
        if info.binding is None:
            raise MinimandError(f"{name} is a model that runs no algorithm; expected an algorithm to certify.")
        binding = "" if info.binding == "residual" else f" --binding {info.binding}"
        raise MinimandError(
            f"{name} is a model; certificates are of algorithms, and it runs {info.algorithm} unless it is given "
            f'another: minimand certify "{info.algorithm}"{binding}.'
        )

"""`minimand pack`: a run's network of thresholds as a file that runs on bits."""

from rich.console import Console
from tyro.conf import Positional

from ..options import OfOwn, Output, OwnModel, Whole, check_file
from ..shared import reopen_trained
from ._registry import command


@command("pack")
class Pack:
    """Pack the network of thresholds in a run into a file that runs on bits; `minimand evaluate FILE` evaluates it."""

    run: Positional[str]
    """The folder of the run to pack."""
    output: Output
    """The packed file that is written."""
    weight_bits: Whole = None
    """Round the real weights between thresholds to so many bits (8, 4, 2 or 1), after training."""
    algorithm: OfOwn = None
    model: OwnModel = None

    def __call__(self, console: Console) -> None:
        from ...inference.packed import pack

        check_file("--output", self.output)
        opened = reopen_trained(self.run, self.algorithm, console, self.model)
        packed = pack(opened.model, self.weight_bits, data=opened.inputs)
        packed.save(self.output)
        console.print(str(packed))
        if opened.recipe.precision == "bf16":
            console.print("note: the file gives what the model gives in float32; the run is evaluated in bfloat16.")
        console.print(f"packed: {self.output}")

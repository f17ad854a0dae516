"""`minimand generate`: text from the language model of a run."""

from rich.console import Console
from tyro.conf import Positional

from ..options import Device, OfOwn, OwnModel, Whole
from ..shared import reopen_trained
from ._registry import command


@command("generate")
class Generate:
    """Go on with a prompt, by the language model of a run."""

    run: Positional[str]
    """The folder of a run on text, as `minimand train --data python_stdlib` makes it."""
    prompt: str = "\n"
    """The text to go on from; a line break by default."""
    tokens: int = 200
    """The number of tokens to draw; the end of a document ends the text before."""
    temperature: float = 1.0
    """What logits are divided by: 0 takes the likeliest token each time."""
    top_k: Whole = None
    """The number of likeliest tokens that are drawn from; all by default."""
    seed: int = 0
    """The seed that decides what is drawn."""
    algorithm: OfOwn = None
    model: OwnModel = None
    device: Device = None

    def __call__(self, console: Console) -> None:
        from ..._support.torch.environment import as_device

        device = as_device(self.device)
        opened = reopen_trained(self.run, self.algorithm, console, self.model)
        opened.model.to(device)
        settings = {name: getattr(self, name) for name in ("tokens", "temperature", "top_k", "seed")}
        console.print(opened.generate(self.prompt, **settings), soft_wrap=True)

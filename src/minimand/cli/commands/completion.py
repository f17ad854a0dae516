"""`minimand completion`: the commands and options under the tab key."""

import io
import os
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from ..._support.errors import MinimandError, unknown_name
from ..._support.files import write_whole
from ._registry import command

# Where each shell looks for the completions of a user.
_PLACES = {
    "bash": "~/.local/share/bash-completion/completions/minimand",
    "zsh": "~/.zfunc/_minimand",
    "fish": "~/.config/fish/completions/minimand.fish",
}
_THEN = {
    "bash": "open a new shell (the package bash-completion has to be there)",
    "zsh": "put 'fpath+=~/.zfunc; autoload -Uz compinit; compinit' into ~/.zshrc, and open a new shell",
    "fish": "open a new shell",
}


@command("completion")
class Completion:
    """Print what makes a shell complete commands and options; with --install, put it where the shell looks."""

    shell: Positional[Annotated[str, arg(metavar="{bash,fish,zsh}", help_behavior_hint="")]] = ""
    """The shell; by default the one of $SHELL."""
    install: bool = False
    """Write the script to the place of the user's own completions."""

    def __call__(self, console: Console) -> None:
        shell = self.shell or Path(os.environ.get("SHELL", "bash")).name
        if shell not in _PLACES:
            raise unknown_name("shell", shell, _PLACES)
        script = _script(shell)
        if not self.install:
            print(script)
            return
        place = Path(_PLACES[shell]).expanduser()
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, script)
        except OSError as error:
            raise MinimandError(f"cannot write {place} ({error.strerror}); print it, and put it elsewhere.") from None
        console.print(f"completion of {shell}: {place}; {_THEN[shell]}.", soft_wrap=True)


def _script(shell: str) -> str:
    from .. import main

    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        main(["--tyro-print-completion", shell])
    if not printed.getvalue():
        raise MinimandError(f"the installed tyro has no completion of {shell}; expected a newer one.")
    return printed.getvalue()

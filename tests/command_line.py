"""The command line in this process."""

import pytest

from minimand.cli import main


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said in a line, without a traceback, of a command that is no good."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return " ".join((output.err.strip() or output.out).split())

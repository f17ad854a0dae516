"""The command line as `python -m minimand`."""

from .cli import main

main()

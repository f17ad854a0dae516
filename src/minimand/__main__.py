"""`python -m minimand`."""

from .cli import main

main()

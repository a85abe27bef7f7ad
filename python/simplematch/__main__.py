"""`python -m simplematch`: the command line."""

from .cli import main

main()

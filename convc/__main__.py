"""`python -m convc`: the command line."""

from convc.cli import main

main()

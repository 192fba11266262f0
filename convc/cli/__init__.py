"""The command line: one file a verb, each a thin layer over the library."""

from convc.cli.main import main

__all__ = ["main"]

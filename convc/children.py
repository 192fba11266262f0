"""Processes that import convc must find the one that starts them, wherever they run."""

from __future__ import annotations

import os
from pathlib import Path

import convc


def environment() -> dict[str, str]:
    """This process's environment; where convc is a clone's, which only a Python started there finds, also
    the way to it.
    """
    if len(convc.__path__) == 1:  # installed, where any process finds it
        return dict(os.environ)
    clone = str(Path(convc.__path__[0]).parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [clone, os.environ.get("PYTHONPATH")]))}

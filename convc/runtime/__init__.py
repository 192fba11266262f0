"""Loading and running compiled modules. Imports nothing of the compiler."""

from convc.runtime.module import Module, load

__all__ = ["Module", "load"]

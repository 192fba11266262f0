"""How the compiler tells of its progress: silent by default, drawn by the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """Told of each stage and notice; this one keeps quiet."""

    def notice(self, text: str) -> None:
        """Something the user should know."""

    @contextmanager
    def stage(self, name: str, total: int = 1) -> Iterator[Callable[[], None]]:
        """A stage of `total` parts; the callable reports one part as done."""
        yield lambda: None

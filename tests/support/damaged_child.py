"""Loads, inspects and runs the modules of a folder in a process of its own: `damaged_child.py FOLDER`.

For each `NAME.so` a line tells that it begins, and one what came of it: refused, right, or what was wrong.
While a module is at work the address space may grow by `ROOM` and the size of its file, and no more.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
from click.testing import CliRunner

import convc
from convc.cli.inspect import command as inspect

ROOM = 48 << 20
"""Bytes: threads' stacks and the allocator's arenas are reserved in such steps."""

UNLIMITED = resource.RLIM_INFINITY


def main(folder: Path) -> None:
    with np.load(folder / "case.npz") as file:
        arrays = dict(file)
    feeds = {name[3:]: a for name, a in arrays.items() if name.startswith("in ")}
    expected = [a for name, a in arrays.items() if name.startswith("out ")]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for path in sorted(folder.glob("*.so")):
        print(path.name, "begins", flush=True)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM + path.stat().st_size, UNLIMITED))
        outcome = f"{loaded(path, feeds, expected)} {inspected(path)}"
        resource.setrlimit(resource.RLIMIT_AS, (UNLIMITED, UNLIMITED))
        print(path.name, outcome, flush=True)


def loaded(path: Path, feeds: dict[str, np.ndarray], expected: list[np.ndarray]) -> str:
    """What loading and running comes to."""
    try:
        found = convc.load(path, threads=1).run(None, feeds)
    except convc.ConvcError as error:
        return "refused" if str(error).isprintable() else f"unprintable:{error!r}".replace(" ", "_")
    except BaseException as error:
        return f"{type(error).__name__}:{error}"[:200].replace(" ", "_")
    return "right" if all(map(np.array_equal, found, expected)) else "wrong"


def inspected(path: Path) -> str:
    """What `convc inspect` comes to, in words and as JSON."""
    for options in ([], ["--json"], ["--check"]):
        error = CliRunner().invoke(inspect, [str(path), *options]).exception
        if error is not None and not isinstance(error, convc.ConvcError):
            return f"inspect:{type(error).__name__}:{error}"[:200].replace(" ", "_")
    return "ok"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Timing of engines, convc among them: each in a process of its own, in turns, several rounds.

A process alone has no threads of another engine that still spin, and no caches that another has filled. Turns
within a round see the machine in the same state, so that ratios are taken round by round and their median is
reported: a slow minute of a shared machine slows both sides of a ratio.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from convc import children
from convc.errors import OptionError
from convc.runtime.compare import relative_error

ENGINES = ("onnxruntime", "openvino")
"""The peers that the child process knows by name."""

_CHILD = Path(__file__).with_name("engine_child.py")


@dataclass(frozen=True)
class Task:
    """What one engine shall do in its turn.

    `path` is a module file for convc, an ONNX file for the others; `feeds` an .npz of inputs by name,
    `outputs` the .npz to write. After `warmup` runs it is timed for `seconds`, at least `fewest` and at most
    `most` times. `product` is the size of a square NumPy product between the runs, on all of NumPy's threads
    (0: none). `loader` is a Python file whose `load` stands for an engine that the child does not know.
    """

    engine: str
    path: str
    threads: int
    feeds: str
    outputs: str
    warmup: int = 3
    seconds: float = 2.0
    fewest: int = 8
    most: int = 400
    product: int = 0
    loader: str = ""


@dataclass(frozen=True)
class Turn:
    """What one process measured.

    `load_s` is the time from the engine's import to a loaded network, `first_s` that of the first run, which
    may still read weights. `baseline_bytes` were resident before the engine was imported, `peak_bytes` at
    most.
    """

    times_s: tuple[float, ...]
    load_s: float
    first_s: float
    baseline_bytes: int
    peak_bytes: int

    @property
    def median_s(self) -> float:
        """The middle run."""
        return statistics.median(self.times_s)


Rounds = Mapping[str, Sequence[Turn]]
"""The turns of each engine, one for each round."""


def take_turn(task: Task) -> Turn:
    """Run a task in a new process. Raises OptionError when the engine is absent or fails."""
    environment = children.environment()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, str(_CHILD), json.dumps(asdict(task))],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}, no message"])[-1]
        hint = "Install it with `pip install convc[bench]`." if "ModuleNotFoundError" in last else ""
        raise OptionError(f"{task.engine} could not run this network: {last}", hint=hint)
    fields = json.loads(done.stdout.strip().splitlines()[-1])
    return Turn(**{**fields, "times_s": tuple(fields["times_s"])})


def in_turns(
    tasks: Sequence[Task], rounds: int, heard: Callable[[Task, Turn], None] = lambda *_: None
) -> dict[str, list[Turn]]:
    """Each task once a round, `rounds` times; `heard` is told of each turn."""
    turns: dict[str, list[Turn]] = {task.engine: [] for task in tasks}
    for _ in range(rounds):
        for task in tasks:
            turn = take_turn(task)
            turns[task.engine].append(turn)
            heard(task, turn)
    return turns


def ratio(turns: Rounds, engine: str, peers: Sequence[str]) -> float:
    """Time of `engine` over that of the fastest of `peers` in the same round: the median over the rounds."""
    return statistics.median(
        own.median_s / min(turns[peer][number].median_s for peer in peers)
        for number, own in enumerate(turns[engine])
    )


def spread_ms(turns: Sequence[Turn]) -> tuple[float, float, float]:
    """Percentiles 10, 50 and 90 of all runs of all rounds, in milliseconds."""
    times = 1e3 * np.concatenate([turn.times_s for turn in turns])
    p10, p50, p90 = (float(p) for p in np.percentile(times, [10, 50, 90]))
    return p10, p50, p90


def error_between(found: Path, expected: Path) -> float:
    """Largest relative error of the outputs in one .npz against another's; infinite if shapes differ."""
    with np.load(found) as ours, np.load(expected) as theirs:
        if [ours[k].shape for k in ours.files] != [theirs[k].shape for k in theirs.files]:
            return float("inf")
        return max((relative_error(ours[k], theirs[k]) for k in ours.files), default=0.0)

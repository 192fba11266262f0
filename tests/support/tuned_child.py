"""Tunes a small network by formula: `tuned_child.py DATABASE TRIALS PAUSE`. Prints each trial's number."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from formula_measurer import FormulaMeasurer
from networks import residual

from convc.compilation import plan
from convc.compiler import Options
from convc.progress import Progress as Silent
from convc.tune.database import Database
from convc.tune.progress import Status, Watcher
from convc.tune.records import machine_of
from convc.tune.station import Result
from convc.tune.tasks import Candidate, Task, tasks
from convc.tune.trial import Trial
from convc.tune.tuner import Budget, Tuner


class Slow(FormulaMeasurer):
    """Takes its time, so that it can be killed in the middle."""

    def __init__(self, pause: float) -> None:
        super().__init__(fail_every=7)
        self._pause = pause

    def measure(self, task: Task, candidates: Sequence[Candidate]) -> Iterator[tuple[Candidate, Result]]:
        for found in super().measure(task, candidates):
            time.sleep(self._pause)
            yield found


class Told(Watcher):
    """Tells of each trial that is in the database."""

    def trial(self, trial: Trial, status: Status) -> None:
        print(status.trials, flush=True)


def tuner(database: Database, trials: int | None, pause: float = 0.0) -> Tuner:
    """A tuner of the network, with an untuned start and a seed that are always the same."""
    planned = plan(residual(), Options(threads=2), Silent())
    machine = machine_of(planned.target)
    return Tuner(tasks(planned), machine, database, Slow(pause), Budget(None, trials), 1, Told())


if __name__ == "__main__":
    with Database.open(Path(sys.argv[1])) as opened:
        made = tuner(opened, int(sys.argv[2]), float(sys.argv[3]))
        print("ready", flush=True)
        made.run()

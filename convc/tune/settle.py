"""Does what a trial found hold in the network? Where it does not, the record is corrected.

A trial imitates what the layers around do to the caches (see `trial_module`), and the machine may have been
busier when it was made. So the tuned network and the untuned one run in turns, step by step. A layer that
takes longer tuned than untuned gets a new trial of the same variant, with the time that it takes in place: of
a variant's trials the last one counts. Another candidate is then the layer's best, and must hold as well.
Of all networks that were compared the fastest is taken.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from convc.codegen.link import configuration
from convc.compilation import Compilation
from convc.compiler import build
from convc.files import Scratch
from convc.progress import Progress
from convc.runtime import manifest as manifests
from convc.tune.database import Database
from convc.tune.judge import Interval, ratio
from convc.tune.records import machine_of
from convc.tune.tasks import canonical
from convc.tune.trial import Outcome, Trial, Variant
from convc.tune.worker import Gone, Worker
from convc.types import Array

ROUNDS = 6
"""Networks at most that are compared with the untuned one, all but the first with corrected records."""
RUNS, LEAST_RUNS, MOST_RUNS = 10, 20, 100
"""Runs of each network in a comparison: so many in a process, and in all."""
COMPARISON_SECONDS = 300.0


@dataclass(frozen=True)
class Profile:
    """Seconds of a module's steps: a row for each run, a column for each of `steps`, which name layers."""

    steps: tuple[str, ...]
    seconds: Array

    def of(self, layers: Collection[str]) -> list[float]:
        """Seconds of these layers together in each run."""
        chosen = [name in layers for name in self.steps]
        return [float(s) for s in self.seconds[:, chosen].sum(axis=1)]

    @property
    def whole(self) -> list[float]:
        """Seconds of each run."""
        return [float(s) for s in self.seconds.sum(axis=1)]


@dataclass(frozen=True)
class Comparison:
    """Two modules of one network that ran in turns."""

    tuned: Profile
    untuned: Profile

    @property
    def whole(self) -> Interval:
        """How many times as long as the untuned network the tuned one takes."""
        return ratio(self.tuned.whole, self.untuned.whole)

    def of(self, layers: Collection[str]) -> Interval:
        """The same of these layers together."""
        return ratio(self.tuned.of(layers), self.untuned.of(layers))


@dataclass(frozen=True)
class Settled:
    """The fastest of the networks that were compared, how it compares, and the trials that were corrected.

    `ratio` is its time over the untuned network's; None where the comparison was cut short.
    """

    compilation: Compilation
    ratio: Interval | None
    corrected: tuple[Trial, ...]


def settle(
    untuned: Compilation,
    tuned: Callable[[], Compilation],
    layers: Collection[str],
    database: Database,
    progress: Progress,
    cache: Path | None,
) -> Settled:
    """Compare the network that `tuned` plans from the records, and correct these, until they hold.

    Only records of `layers`, which are keys of work, are corrected. An interrupt from the keyboard, or a
    module that ends its process, ends the comparison: what is known by then counts.
    """
    best, least, made = tuned(), None, list[Trial]()
    with Scratch() as folder:
        path, before = folder / "tuned.so", folder / "untuned.so"
        try:
            build(untuned, before, progress, verify=False, cache=cache)
            for rounds_left in reversed(range(ROUNDS)):
                planned = tuned() if made else best
                build(planned, path, progress, verify=False, cache=cache)
                with progress.stage("compare with untuned"):
                    found = compare(path, before)
                if least is None or found.whole.middle < least.middle:
                    best, least = planned, found.whole
                # after the last round nothing would be compiled with them
                wrong = corrections(planned, untuned, found, layers, database) if rounds_left else []
                for trial in wrong:
                    database.add(trial)
                made += wrong
                if not wrong:
                    break
        except KeyboardInterrupt:
            progress.notice("Interrupted: the tuned network may not have been compared with the untuned one.")
        except Gone as error:
            progress.notice(f"The comparison with the untuned network was given up: {error}.")
    return Settled(best, least, tuple(made))


def compare(tuned: Path, untuned: Path) -> Comparison:
    """Run two modules in turns until it is clear which is faster.

    Each process lays tensors and weights out in memory of its own, which matters by some percent: so there
    are several, of a few runs each.
    """
    steps = [manifests.read(path).steps for path in (tuned, untuned)]
    runs: tuple[list[list[float]], ...] = ([], [])
    while True:
        with Worker("convc.tune.runner:Networks", {"OPENBLAS_NUM_THREADS": "1"}) as worker:
            found = worker.ask("profile", [tuned, untuned], RUNS, timeout=COMPARISON_SECONDS)
        for rows, more in zip(runs, found, strict=True):
            rows += more
        made = Comparison(*(Profile(s, np.array(rows)) for s, rows in zip(steps, runs, strict=True)))
        clear = not made.whole.low <= 1.0 <= made.whole.high
        if len(runs[0]) >= (LEAST_RUNS if clear else MOST_RUNS):
            return made


def corrections(
    tuned: Compilation,
    untuned: Compilation,
    found: Comparison,
    layers: Collection[str],
    database: Database,
) -> list[Trial]:
    """New trials of variants in the tuned network that take longer in place than the untuned choice.

    That is said of layers of equal work together, where their choices are the same before and after. A record
    that says as much already is right: such a variant was chosen for the sake of other layers. One that was
    chosen so and has no record gets one. A layer whose untuned choice was never measured is left.
    """
    session, made = uuid.uuid4().hex[:12], list[Trial]()
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    machine, usual, alike = machine_of(tuned.target), _ways(untuned), dict[tuple[Way, Way], list[str]]()
    for name, way in _ways(tuned).items():
        if name in usual and way.layer in layers and way != usual[name]:
            alike.setdefault((way, usual[name]), []).append(name)
    for (way, before), names in alike.items():
        known = {(t.variant, t.version): t for t in database.best(machine, [way.layer])[way.layer]}
        promised, anchor = known.get((way.variant, way.version)), known.get((before.variant, before.version))
        relative = found.of(names)
        if anchor is None or anchor.seconds is None or relative.low <= 1.0:
            continue
        times = relative.scaled(anchor.seconds)
        if promised is not None and promised.seconds is not None and promised.seconds >= times.low:
            continue
        made.append(
            Trial(
                layer=way.layer,
                op=anchor.op,
                workload=anchor.workload,
                variant=way.variant,
                version=way.version,
                machine=machine,
                outcome=Outcome.OK,
                seconds=times.middle,
                low=times.low,
                high=times.high,
                runs=len(found.tuned.seconds),
                message="in the network",
                measured_at=now if promised is None else max(now, promised.measured_at),
                session=session,
                number=len(made) + 1,
            )
        )
    return made


@dataclass(frozen=True)
class Way:
    """What a layer does, by its key, and how: its variant, in a version of the lowering."""

    layer: str
    variant: Variant
    version: int


def _ways(compilation: Compilation) -> dict[str, Way]:
    """How each layer is computed, by its name."""
    found = {}
    for node, choice in compilation.choices.items():
        config = canonical(configuration(choice, compilation.target))
        variant = Variant(choice.lowering.name, choice.workload.layouts, config)
        found[node.name] = Way(choice.workload.key, variant, choice.lowering.version)
    return found

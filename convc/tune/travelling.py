"""Measures candidates that were exported: `python measure.py --out results.jsonl` on the machine itself.

Needs Python, NumPy and what the folder holds. A line is written for each candidate as soon as it is measured;
run again, it goes on with those that have none.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from convc.errors import ConvcError
from convc.files import Scratch
from convc.tune.station import Lost, Module, Station, Unusable, recorded
from convc.tune.trial import HEADER, Machine, Outcome, Trial, Variant
from convc.tune.worker import Worker

SERVICES = {"cpu": "convc.tune.runner:Runner", "cuda": "convc.tune.device_runner:DeviceRunner"}


@dataclass
class Journey:
    """A folder of candidates, and the file of results that it fills."""

    folder: Path
    out: Path
    station: Station
    deadline: float

    def run(self) -> int:
        """Measure what has no line yet; the number of lines written."""
        index = json.loads((self.folder / "index.json").read_text())
        known = {(t.layer, t.variant): t for t in _read(self.out)}
        session, count = uuid.uuid4().hex[:12], 0
        with self.out.open("a", encoding="utf-8") as file:
            if not file.tell():
                _write(file, HEADER)
            machine = Machine(**index["machine"]).with_features(**self.station.describe())
            for layer in index["layers"]:
                for trial in self._layer(layer, machine, known):
                    count += 1
                    _write(file, replace(trial, session=session, number=count).to_json())
                    print(_sentence(layer["name"], trial), flush=True)
        return count

    def _layer(
        self, layer: dict[str, Any], machine: Machine, known: dict[tuple[str, Variant], Trial]
    ) -> Iterator[Trial]:
        """The trials of a layer's candidates, the untuned choice first."""
        blanks = [_blank(layer, candidate, machine) for candidate in layer["candidates"]]
        todo = [i for i, blank in enumerate(blanks) if (blank.layer, blank.variant) not in known]
        if not todo or time.time() > self.deadline:
            return
        first = known.get((blanks[0].layer, blanks[0].variant))
        if first is not None and not first.ok:
            return
        anchor = None if first is None else first.seconds
        with Scratch() as scratch:
            modules = [self._unpacked(c, scratch) for c in layer["candidates"]]
            number = {module.path: i for i, module in enumerate(modules)}
            try:
                self.station.open(self.folder / layer["arrays"], modules[0])
                if 0 in todo:
                    ((_, result),) = self.station.measure(modules[:1])
                    anchor = result.seconds
                    yield recorded(blanks[0], result, None, untuned=True)
                for path, result in self.station.measure([modules[i] for i in todo if i]):
                    yield recorded(blanks[number[path]], result, anchor, untuned=False)
            except Unusable as error:
                yield recorded(blanks[0], error.result, None, untuned=True)

    def _unpacked(self, candidate: dict[str, Any], scratch: Path) -> Module:
        packed = self.folder / candidate["file"]
        path = scratch / packed.name.removesuffix(".xz")
        path.write_bytes(lzma.decompress(packed.read_bytes()))
        return Module(path, candidate["predicted"])


def _blank(layer: dict[str, Any], candidate: dict[str, Any], machine: Machine) -> Trial:
    """A candidate's trial before it is measured."""
    return Trial(
        layer=layer["key"],
        op=layer["op"],
        workload=layer["workload"],
        variant=Variant(**candidate["variant"]),
        version=candidate["version"],
        machine=machine,
        outcome=Outcome.BUILD,
        predicted=candidate["predicted"],
    )


def _read(path: Path) -> list[Trial]:
    """The trials in a file of results; none where there is no file. A last line cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[-1]:
        path.write_text("\n".join([*lines[:-1], ""]), encoding="utf-8")
    return [Trial.from_json(json.loads(line)) for line in lines[1:-1]]


def _write(file: TextIO, value: dict[str, Any]) -> None:
    file.write(json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n")
    file.flush()


def _sentence(name: str, trial: Trial) -> str:
    """A trial in one line."""
    time_or_reason = (
        f"{1e3 * trial.seconds:.4f} ms" if trial.seconds else f"{trial.outcome.value}: {trial.message}"
    )
    return f"{name}: {trial.variant.lowering} {trial.variant.config}: {time_or_reason}"


def main() -> None:
    """Measure the folder that this file was put into."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("results.jsonl"), help="file of the results")
    parser.add_argument("--budget", type=float, default=540, help="seconds after which no layer is begun")
    options = parser.parse_args()
    folder = Path(sys.argv[0]).resolve().parent
    index = json.loads((folder / "index.json").read_text())
    kind = Machine(**index["machine"]).features["kind"]
    path = {"PYTHONPATH": str(folder), "OPENBLAS_NUM_THREADS": "1"}
    station = Station(Worker(SERVICES[kind], path))
    try:
        count = Journey(folder, options.out, station, time.time() + options.budget).run()
    except (ConvcError, Lost) as error:
        sys.exit(f"error: {error}")
    finally:
        station.close()
    print(f"{count} measured; `convc tune MODEL --import-measurements {options.out}` takes them in.")

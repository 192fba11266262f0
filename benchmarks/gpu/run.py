#!/usr/bin/env python3
"""Measure on a GPU what `build.py` built. Needs Python and NumPy; compares with PyTorch where that is.

    python run.py --out results.json                                  # all, as far as 540 s go
    python run.py --out results.json --resume                         # what is left
    python run.py --out results.json --resume --only networks --precision float16 --compile

First ResNet-50 in float16, with the time of each kernel, then every check, ceilings (a copy, a large matrix
product in each precision), layers and networks. The record is written after each measurement. Jobs run in a
process of their own: one that fails, hangs or ends the process is written down with its reason, and the rest
goes on in another. So is the import of PyTorch: where that fails, the rest is measured without. With
`--resume` what the record has is kept, failures too unless `--retry`; with `--compile` networks that have no
figure of torch.compile are measured again. The exit status is 1 when anything failed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import queue
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

Entry = dict[str, Any]
KINDS = ("checks", "layers", "networks")
GRACE = 15
"""Seconds that a job may run on behind the budget before its process is ended."""
CHECK_SECONDS = 20
"""After which a check has failed: 2 are enough for any."""
PHASES = {"start": 60, "torch": 90, "ceilings": 60}
"""What a process does besides jobs, in how many seconds: begin, import PyTorch, measure ceilings."""
FIRST = {"kind": "network", "model": "resnet50", "precision": "float16"}
"""What is measured first: what users of such a device ask for before anything else."""


# ---- the record ----


def new_record(folder: Path) -> Entry:
    """An empty record."""
    built = {}
    for kind in KINDS:
        path = folder / f"index-{kind}.json"
        if path.exists():
            index = json.loads(path.read_text())
            built[kind] = {key: index[key] for key in ("arch", "commit", "date", "seconds")}
    shown = [Path(a).name if os.sep in a else a for a in sys.argv[1:]]
    return {
        "benchmark": "gpu",
        "command": shlex.join(["python", "run.py", *shown]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": {},
        "versions": {},
        "settings": {"built": built},
        "ceilings": {},
        "rows": [],
        "summary": {},
    }


def save(record: Entry, path: Path) -> None:
    """Write the record: the file is the old one or the new one and nothing between."""
    record["summary"] = summary(record)
    handle, temporary = tempfile.mkstemp(dir=path.resolve().parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        json.dump(record, file, indent=1, allow_nan=False)
        file.write("\n")
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def summary(record: Entry) -> Entry:
    """For each kind and precision: how many, how many failed, the geometric mean of ratios, the losses."""
    found: Entry = {}
    for row in record["rows"]:
        name = f"{row['kind']} {row['precision']}" + (f" batch {row['batch']}" if "batch" in row else "")
        entry = found.setdefault(name, {"rows": 0, "failed": [], "ratios": {}})
        entry["rows"] += 1
        if row.get("failed"):
            entry["failed"].append(row["key"])
        if row.get("ratio"):
            entry["ratios"][row["key"]] = row["ratio"]
    for entry in found.values():
        ratios = entry.pop("ratios")
        if ratios:
            entry["geometric_mean"] = math.exp(statistics.fmean(map(math.log, ratios.values())))
            entry["slower"] = {k: r for k, r in sorted(ratios.items(), key=lambda i: -i[1]) if r > 1}
    return found


def speeds(entry: Entry, row: Entry, ceilings: Entry) -> Entry:
    """TFLOP/s, and the share of the time that the ceilings leave no way below."""
    ms = row["engines"]["convc"]["median_ms"]
    found: Entry = {"tflops": entry["flops"] / ms / 1e9}
    peak, copy = ceilings.get(entry["precision"]), ceilings.get("copy_bytes_s")
    if peak and copy:
        least = max(entry["flops"] / peak, entry.get("moved_bytes", 0) / copy) * 1e3
        found["percent_of_ceiling"] = 100 * least / ms
    return found


# ---- what is to be done ----


def entries_of(folder: Path, options: argparse.Namespace) -> list[Entry]:
    """All entries that are asked for, in order."""
    found: list[Entry] = []
    for kind in options.only:
        path = folder / f"index-{kind}.json"
        if path.exists():
            jobs = json.loads(path.read_text())["jobs"]
            found += [entry for own in jobs.values() for entry in own]
    return [
        entry
        for entry in found
        if (not options.precision or entry["precision"] in options.precision)
        and (not options.batch or entry.get("batch", options.batch[0]) in options.batch)
        and options.match in entry["key"]
    ]


def is_first(entry: Entry) -> bool:
    """Whether an entry is measured before all others."""
    return all(entry.get(name) == value for name, value in FIRST.items())


def is_done(entry: Entry, row: Entry | None, options: argparse.Namespace) -> bool:
    """Whether a record's row stays."""
    if row is None or (options.retry and row.get("failed")):
        return False
    lacks = entry["kind"] == "network" and options.compile and "torch_compile" not in row.get("engines", {})
    return not (lacks and not row.get("failed"))


LOST = 3
"""Exit status of a process that lost its device, see work.py."""
PHASE_NAMES = {"torch": "PyTorch", "ceilings": "ceilings"}


class Run:
    """A record in the making, and the processes that fill it."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        self.deadline = time.time() + options.budget
        resumed = options.resume and options.out.exists()
        self.record = json.loads(options.out.read_text()) if resumed else new_record(folder)
        self.rows: dict[str, Entry] = {row["key"]: row for row in self.record["rows"]}
        self.entries = entries_of(folder, options)
        self.todo = [e for e in self.entries if not is_done(e, self.rows.get(e["key"]), options)]
        self.stopped = False  # a process could not even begin
        self.without: dict[str, str] = {}
        """Phases that processes leave out from now on, since they failed, and why."""

    def finish(self, key: str, row: Entry) -> None:
        """Write down what came of an entry."""
        (entry,) = (e for e in self.todo if e["key"] == key)
        self.todo.remove(entry)
        names = "kind key model layer counts batch precision lowering lowerings flops"
        whole = {name: entry[name] for name in names.split() if name in entry} | row
        if "engines" in row:
            whole |= speeds(entry, row, self.record["ceilings"])
        self.rows[key] = whole
        self.record["rows"] = list(self.rows.values())
        save(self.record, self.options.out)
        print(sentence(whole), flush=True)

    def all(self) -> None:
        """Checks in processes without PyTorch, which start at once; the others in one with it."""
        kinds = (is_first, lambda e: e["kind"] == "check", lambda e: e["kind"] != "check")
        for belongs in kinds:
            while True:
                batch = [e for e in self.todo if belongs(e)]
                if not batch or self.stopped or time.time() > self.deadline or not self.process(batch):
                    break

    def process(self, batch: list[Entry]) -> bool:
        """Work on entries in one process; whether another is worth starting for those that are left."""
        checks = batch[0]["kind"] == "check"
        settings = {
            "torch": not (checks or self.options.no_torch or "torch" in self.without),
            "compile": self.options.compile and not checks,
            "seconds": self.options.seconds,
            "ceilings": not (is_first(batch[0]) or self.record["ceilings"] or "ceilings" in self.without),
        }
        with tempfile.TemporaryDirectory(prefix="convc-") as scratch:
            request = Path(scratch) / "jobs.json"
            request.write_text(json.dumps({"entries": batch, "options": settings, "deadline": self.deadline}))
            command = [sys.executable, str(HERE / "run.py"), str(self.folder), "--worker", str(request)]
            job_seconds = min(self.options.job_seconds, CHECK_SECONDS if checks else math.inf)
            return self._listen(subprocess.Popen(command, stdout=subprocess.PIPE, text=True), job_seconds)

    def _listen(self, process: subprocess.Popen[str], job_seconds: float) -> bool:
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        current, why, self.phase = "", "", "start"
        while True:
            limit = min(PHASES.get(self.phase, job_seconds), self.deadline + GRACE - time.time())
            try:
                line = lines.get(timeout=max(limit, 0.1))
            except queue.Empty:
                why = f"no result after {limit:.0f} s"
                process.kill()
                process.wait()
                break
            if line is None:
                break
            current = self._heard(line, current)
        status = process.wait()
        if not current:
            return self._ended_between(status, why)
        if why and time.time() > self.deadline:
            return False  # cut by the budget, and so no failure
        self.finish(current, {"failed": why or f"its process ended with status {status}"})
        return True

    def _rate(self) -> None:
        """Compare what was measured before the ceilings with them."""
        for entry in self.entries:
            row = self.rows.get(entry["key"], {})
            if "engines" in row:
                row |= speeds(entry, row, self.record["ceilings"])

    def _ended_between(self, status: int, why: str) -> bool:
        """A process ended that was at no job; whether another is worth starting."""
        if status in (0, LOST):
            return status == LOST
        reason = why or f"its process ended with status {status}"
        if self.phase in ("torch", "ceilings"):
            self.leave_out(self.phase, reason)
            return True
        self.stopped = True
        print(f"A process ended before its first job: {reason}.", flush=True)
        return False

    def leave_out(self, phase: str, reason: str) -> None:
        """Go on without what failed, and write down why."""
        self.without[phase] = reason
        self.record.setdefault("failed", {})[phase] = reason
        save(self.record, self.options.out)
        print(f"Without {PHASE_NAMES[phase]}: {reason}", flush=True)

    def _heard(self, line: str, current: str) -> str:
        if not line.startswith("@ "):
            print(line, end="", flush=True)
            return current
        message = json.loads(line[2:])
        for part in ("machine", "versions", "ceilings"):
            if part in message:
                self.record[part] = {**self.record[part], **message[part]}
        if "ceilings" in message:
            self._rate()
        for phase, reason in message.get("failed", {}).items():
            self.leave_out(phase, reason)
        self.phase = message.get("phase", "" if "begin" in message else self.phase)
        if "row" in message:
            self.finish(message["key"], message["row"])
            return ""
        return str(message.get("begin", current))


# ---- what is printed ----


def sentence(row: Entry) -> str:
    """A row in one line."""
    head = f"{row['kind']} {row['key']}: "
    error = f" error {row['error']:.1e}" if row.get("error") is not None else ""
    times = "  ".join(f"{name} {f['median_ms']:.4f} ms" for name, f in row.get("engines", {}).items())
    ratio = f"  ratio {row['ratio']:.3f}" if row.get("ratio") else ""
    share = f"  {row['percent_of_ceiling']:.0f} % of ceiling" if "percent_of_ceiling" in row else ""
    failed = f"  FAILED: {row['failed']}" if row.get("failed") else ""
    failed += f"  PyTorch failed: {row['peer_failed']}" if row.get("peer_failed") else ""
    return head + times + ratio + share + error + failed


def conclusion(run: Run) -> str:
    """The tables' end: means, losses, failures, what is left."""
    lines = []
    for name, entry in run.record["summary"].items():
        mean = f", geometric mean {entry['geometric_mean']:.3f}" if "geometric_mean" in entry else ""
        lines.append(f"{name}: {entry['rows']} rows, {len(entry['failed'])} failed{mean}")
        lines += [f"  slower: {key} {ratio:.2f}" for key, ratio in entry.get("slower", {}).items()]
        lines += [f"  failed: {key}: {run.rows[key]['failed']}" for key in entry["failed"]]
    lines.append(f"{len(run.todo)} of {len(run.entries)} left for --resume.")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line."""

    def words(text: str) -> list[str]:
        return [part for part in text.split(",") if part]

    def numbers(text: str) -> list[int]:
        return [int(part) for part in words(text)]

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=HERE, help="default: where this file is")
    parser.add_argument("--out", type=Path, default=Path("results.json"), help="the record")
    parser.add_argument("--budget", type=float, default=540, help="seconds")
    parser.add_argument("--resume", action="store_true", help="keep what the record has")
    parser.add_argument("--retry", action="store_true", help="but measure again what failed")
    parser.add_argument("--compile", action="store_true", help="torch.compile too, minutes for each network")
    parser.add_argument("--only", type=words, default=list(KINDS), help="checks,layers,networks")
    parser.add_argument("--precision", type=words, default=[])
    parser.add_argument("--batch", type=numbers, default=[])
    parser.add_argument("--match", default="", help="part of a name")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each engine of a row, at most")
    parser.add_argument(
        "--job-seconds",
        type=float,
        default=0,
        help="after which a job has failed; default 120, with --compile 420",
    )
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.job_seconds = options.job_seconds or (420 if options.compile else 120)
    return options


def main() -> None:
    """Measure, print, and say with the exit status whether anything failed."""
    options = parse()
    if options.worker:
        sys.path.insert(0, str(options.folder))  # where convc is
        import work

        request = json.loads(options.worker.read_text())
        worker = work.begin(options.folder, request["options"])
        sys.exit(worker.run(request["entries"], request["deadline"]))
    run = Run(options.folder.resolve(), options)
    print(f"{len(run.todo)} of {len(run.entries)} to do in {options.budget:.0f} s.", flush=True)
    run.all()
    save(run.record, options.out)
    print(conclusion(run))
    sys.exit(1 if run.stopped or any(row.get("failed") for row in run.rows.values()) else 0)


if __name__ == "__main__":
    main()

"""What a benchmark found, as JSON: the machine, the date, the command, the versions and every figure.

A record is written after each row, atomically, so that a run that was stopped can go on (`--resume`).
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from convc.codegen.machine import resolve
from convc.errors import OptionError
from convc.runtime.cpu import available_cpus

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("convc", "apache-tvm", "numpy", "onnx", "onnxruntime", "openvino", "torch", "onnx2torch")


@dataclass
class Record:
    """One benchmark's result; `rows` are its figures, `settings` what they depend on beside the row's own."""

    benchmark: str
    command: str
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the record to a file, which holds the old one or the new one and nothing between."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(asdict(self), file, indent=1, allow_nan=False)
                file.write("\n")
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)


def folder() -> Path:
    """Where records of this machine lie: `results/` has a folder for each processor, by LLVM's name."""
    return RESULTS / resolve("host", None).mcpu


def load(path: Path, benchmark: str = "") -> Record:
    """Read a record. Raises OptionError for a file that is none, or is another benchmark's."""
    try:
        found = Record(**json.loads(path.read_text()))
    except OSError as error:
        raise OptionError(f"Cannot read '{path}': {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise OptionError(
            f"'{path}' is not a benchmark's record: {error}.", hint="Measure it anew, without --resume."
        ) from error
    if benchmark and found.benchmark != benchmark:
        raise OptionError(f"'{path}' is a record of '{found.benchmark}', not of '{benchmark}'.")
    return found


def begin(benchmark: str, settings: dict[str, Any], path: Path, resume: bool) -> Record:
    """A new record, or, to `resume`, the one in the file if it was made under the same conditions.

    Raises OptionError when machine, versions or settings differ: figures of two kinds do not mix.
    """
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    new = Record(benchmark, command(sys.argv), today, machine(), versions(), settings)
    if not resume or not path.exists():
        return new
    old = load(path)
    for part in ("benchmark", "machine", "versions", "settings"):
        was, now = _differing(getattr(old, part), json.loads(json.dumps(getattr(new, part))))
        if was != now:
            raise OptionError(
                f"'{path}' has another {part} ({was}) than this run ({now}).", hint="Run without --resume."
            )
    return old


def _differing(was: Any, now: Any) -> tuple[Any, Any]:
    """Of two tables, the entries that differ; anything else as it is."""
    if not isinstance(was, dict) or not isinstance(now, dict):
        return was, now
    keys = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    return {key: was.get(key) for key in keys}, {key: now.get(key) for key in keys}


def command(arguments: Sequence[str]) -> str:
    """The command line, with paths shortened to their names: where files lay says nothing to others."""
    shown = [Path(a).name if os.sep in a else a for a in arguments[1:]]
    return shlex.join(["python", f"benchmarks/{Path(arguments[0]).name}", *shown])


def machine() -> dict[str, Any]:
    """The processor's name (and LLVM's for it), the processors that this process may use, the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor() or platform.machine()
    return {
        "cpu": f"{cpu} ({resolve('host', None).mcpu})",
        "cpus": available_cpus(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Of Python, of the packages that are installed, and the commit of this clone."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    described = subprocess.run(
        ["git", "-C", str(RESULTS.parent), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    if described.returncode == 0:
        found["commit"] = described.stdout.strip()
    return found

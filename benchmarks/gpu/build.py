#!/usr/bin/env python3
"""Build, on a machine without a GPU, all that is measured on one: a folder that needs Python and NumPy there.

    python benchmarks/gpu/build.py --arch sm_90 --out FOLDER
    python benchmarks/gpu/build.py --out FOLDER --only networks --batch 1,32 --precision float16

The folder holds modules without most of their weights (see store.py), the part of convc that loads and
runs them, and `run.py`, which measures (and needs PyTorch only to compare with it). What is in the folder
already is built again only without `--resume`; compiled kernels are kept in `$CONVC_CACHE` either way.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from bundle import Bundle, Entry
from selection import BATCHES, NETWORKS, PRECISIONS, checks, layers

from convc.codegen.cache import ObjectCache
from convc.codegen.gpus import PRECISIONS as ALL_PRECISIONS
from convc.errors import ConvcError
from convc.tune.exchange import copy_package

HERE = Path(__file__).parent
SCRIPTS = ("run.py", "work.py", "timing.py", "peers.py", "driver.py", "store.py")
"""What runs on the GPU machine."""

KINDS = ("checks", "layers", "networks")
LAYER_BATCHES = (32, 1)
LARGEST = 60e6

MODULES = ("convc", "convc.runtime.cuda", "convc.runtime.host", "convc.runtime.gpu")
"""What is imported there."""

Job = tuple[str, Callable[[], list[Entry]]]


def jobs(kind: str, bundle: Bundle, options: argparse.Namespace) -> Iterator[Job]:
    """All that is built of a kind, in the order in which it is measured: what matters most comes first."""
    if kind == "checks":
        for precision in options.check_precision or ALL_PRECISIONS:
            for case in checks():
                if not options.cases or any(part in case.name for part in options.cases):
                    yield f"check {case.name} {precision}", partial(bundle.check, case, precision)
        return
    for batch in options.batch or (LAYER_BATCHES if kind == "layers" else BATCHES):
        for precision in options.precision or PRECISIONS:
            at = f"{precision} batch {batch}"
            if kind == "layers":
                for layer in layers(most=options.layers):
                    yield f"layer {layer.name} {at}", partial(bundle.layer, layer, batch, precision)
                continue
            for model in NETWORKS:
                if not options.models or model.name in options.models:
                    yield f"network {model.name} {at}", partial(bundle.network, model, batch, precision)


class Index:
    """`index-KIND.json`: the entries of each job that is done. Two kinds may be built at the same time."""

    def __init__(self, folder: Path, kind: str, arch: str, resume: bool) -> None:
        self.path = folder / f"index-{kind}.json"
        self.jobs: dict[str, list[Entry]] = {}
        self.arch = arch
        self.seconds = 0.0
        if resume and self.path.exists():
            found = json.loads(self.path.read_text())
            if found["arch"] != arch:
                sys.exit(f"error: '{folder}' was built for {found['arch']}, not {arch}.")
            self.jobs, self.seconds = found["jobs"], found["seconds"]

    def add(self, name: str, entries: list[Entry], seconds: float) -> None:
        """Write down a job; the file is the old one or the new one and nothing between."""
        self.jobs[name] = entries
        self.seconds += seconds
        text = json.dumps(
            {
                "arch": self.arch,
                "commit": commit(),
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "seconds": self.seconds,
                "jobs": self.jobs,
            }
        )
        temporary = self.path.with_suffix(".new")
        temporary.write_text(text)
        temporary.replace(self.path)


def commit() -> str:
    """The commit of this clone, and whether files differ from it."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=7"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def size_of(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""

    def words(text: str) -> list[str]:
        return [part for part in text.split(",") if part]

    def numbers(text: str) -> list[int]:
        return [int(part) for part in words(text)]

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default="sm_90", help="architecture of the GPU")
    parser.add_argument("--out", type=Path, required=True, help="the folder")
    parser.add_argument("--only", type=words, default=list(KINDS), help="checks,layers,networks")
    parser.add_argument("--batch", type=numbers, default=[], help="batch sizes of layers and networks")
    parser.add_argument("--precision", type=words, default=[], help="of layers and networks")
    parser.add_argument("--check-precision", type=words, default=[], help="of checks; default all four")
    parser.add_argument("--models", type=words, default=[], help="networks by name")
    parser.add_argument("--cases", type=words, default=[], help="checks whose names contain one of these")
    parser.add_argument("--layers", type=int, default=16, help="distinct layers of each network, at most")
    parser.add_argument("--resume", action="store_true", help="keep what the folder has")
    options = parser.parse_args(arguments)
    for name, known in (("only", KINDS), ("precision", PRECISIONS), ("check_precision", ALL_PRECISIONS)):
        for word in getattr(options, name):
            if word not in known:
                parser.error(f"--{name.replace('_', '-')} names '{word}'; known are {', '.join(known)}.")
    return options


def build_kind(kind: str, bundle: Bundle, options: argparse.Namespace) -> list[str]:
    """Build all jobs of a kind, and tell of each; returns those that failed."""
    failed: list[str] = []
    index = Index(options.out, kind, options.arch, options.resume)
    todo = [(name, job) for name, job in jobs(kind, bundle, options) if name not in index.jobs]
    begin = time.monotonic()
    for done, (name, job) in enumerate(todo, 1):
        start = time.monotonic()
        try:
            entries = job()
        except ConvcError as error:
            print(f"[{done}/{len(todo)}] {name}: FAILED: {error}", flush=True)
            failed.append(name)
            continue
        took, left = time.monotonic() - start, (time.monotonic() - begin) / done * (len(todo) - done)
        index.add(name, entries, took)
        nbytes = sum(entry["bytes"] for entry in entries)
        print(
            f"[{done}/{len(todo)}, about {left / 60:.0f} min left] {name}: {len(entries)} modules, "
            f"{nbytes / 1e3:.0f} kB, {took:.1f} s",
            flush=True,
        )
    entries = [entry for own in index.jobs.values() for entry in own]
    nbytes = sum(entry["bytes"] for entry in entries)
    print(f"{kind}: {len(entries)} modules, {nbytes / 1e6:.1f} MB, {index.seconds / 60:.1f} min", flush=True)
    return failed


def main(arguments: list[str] | None = None) -> None:
    """Build what is asked for."""
    options = parse(arguments)
    # A target's nominal figures decide, as on any machine that compiles for another.
    os.environ.setdefault("CONVC_CALIBRATION", "nominal")
    options.out.mkdir(parents=True, exist_ok=True)
    copy_package(options.out, MODULES)
    for script in SCRIPTS:
        shutil.copyfile(HERE / script, options.out / script)
    cache = os.environ.get("CONVC_CACHE")
    bundle = Bundle(options.out, options.arch, ObjectCache.open(Path(cache) if cache else None))
    failed = [name for kind in options.only for name in build_kind(kind, bundle, options)]
    total = size_of(options.out)
    print(f"{options.out}: {total / 1e6:.1f} MB")
    if total > LARGEST:
        sys.exit(
            f"error: {total / 1e6:.1f} MB is more than the {LARGEST / 1e6:.0f} MB that a folder may have."
        )
    if failed:
        sys.exit(f"error: {len(failed)} were not built: {', '.join(failed)}.")


if __name__ == "__main__":
    main()

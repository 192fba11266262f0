"""Where only files can travel: candidates in a folder for the machine that is to measure them.

    index.json      the layers and their candidates, the untuned choice first
    N.npz           a layer's inputs and results
    N_M.so.xz       a candidate's module, its weights of few values: the network's say nothing of time
    convc/          the part of convc that loads, runs and times them
    measure.py      `python measure.py --out results.jsonl` does it: see `travelling`

The results are lines as `convc db export` writes them, and come back by `--import-measurements`.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convc import children
from convc.dtype import BFLOAT16, FLOAT32
from convc.errors import OptionError
from convc.files import Scratch, explained
from convc.tune.measurer import Builders, example
from convc.tune.proof import write_layer
from convc.tune.search import Search
from convc.tune.tasks import Candidate, Task
from convc.tune.trial import Machine
from convc.types import Array

MODULES = ("convc", "convc.tune.travelling", "convc.tune.runner", "convc.tune.device_runner")
"""What is imported on the other machine."""

SCRIPT = '''"""Measures the candidates in this folder; needs Python and NumPy."""

from convc.tune.travelling import main

if __name__ == "__main__":
    main()
'''

LISTING = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
for name, module in sorted(sys.modules.items()):
    if name.split(".")[0] == "convc" and module.__file__:
        print(name, module.__file__)
"""


@dataclass(frozen=True)
class Exported:
    """What was written: the number of layers and candidates, and why others could not be built."""

    layers: int
    candidates: int
    failures: tuple[str, ...]


def export(
    folder: Path,
    searches: Sequence[Search],
    machine: Machine,
    builders: Builders,
    count: int,
    told: Callable[[str, int], None],
) -> Exported:
    """Write `count` candidates of each layer, those that its search proposes, and the untuned choice.

    The folder is made, and appears whole or not at all; `told` hears of each layer and its candidates. Raises
    OptionError where there is something already, or nothing can be written.
    """
    check_absent(folder)
    what = f"Cannot write '{folder}'"
    with Scratch(folder.absolute().parent, what) as scratch, explained(what):
        made = scratch / "made"
        made.mkdir()
        copy_package(made, MODULES)
        (made / "measure.py").write_text(SCRIPT)
        layers: list[dict[str, Any]] = []
        failures: list[str] = []
        for search in searches:
            chosen = _with_untuned(search.task, search.propose(count))
            entry = _layer(made, str(len(layers)), search.task, chosen, builders, failures)
            if entry is not None:
                layers.append(entry)
                told(search.task.name, len(entry["candidates"]))
        (made / "index.json").write_text(json.dumps({"machine": asdict(machine), "layers": layers}))
        os.replace(made, folder)
    return Exported(len(layers), sum(len(entry["candidates"]) for entry in layers), tuple(failures))


def check_absent(folder: Path) -> None:
    """Raise OptionError where there is something in the folder's place."""
    if os.path.lexists(folder):
        raise OptionError(f"'{folder}' exists.", hint="Give the name of a folder to be made.")


def _with_untuned(task: Task, candidates: Sequence[Candidate]) -> list[Candidate]:
    return [task.untuned, *(c for c in candidates if c is not task.untuned)]


def _layer(
    folder: Path,
    number: str,
    task: Task,
    candidates: Sequence[Candidate],
    builders: Builders,
    failures: list[str],
) -> dict[str, Any] | None:
    """Write a layer; None where its untuned choice cannot be built, or nothing else."""
    task = replace(task, weights=tuple(None if w is None else plain_weights(w) for w in task.weights))
    inputs, expected = example(task)
    write_layer(folder / f"{number}.npz", inputs, expected)
    paths = [folder / f"{number}_{i}.so" for i in range(len(candidates))]
    results = builders.build(task, candidates, paths)
    failures += [
        f"{task.name}: {c.lowering.name} {c.variant.config}: {r.message}"
        for c, r in zip(candidates, results, strict=True)
        if r is not None
    ]
    built = [(c, p) for c, p, r in zip(candidates, paths, results, strict=True) if r is None]
    if results[0] is not None or len(built) < 2:
        for path in folder.glob(f"{number}[._]*"):
            path.unlink()
        return None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_compress, [path for _, path in built]))
    return {
        "key": task.key,
        "name": task.name,
        "op": task.workload.op,
        "workload": str(task.workload),
        "arrays": f"{number}.npz",
        "candidates": [
            {
                "variant": asdict(candidate.variant),
                "version": candidate.lowering.version,
                "predicted": candidate.predicted,
                "file": f"{path.name}.xz",
            }
            for candidate, path in built
        ],
    }


def _compress(path: Path) -> None:
    path.with_suffix(".so.xz").write_bytes(lzma.compress(path.read_bytes(), preset=1))
    path.unlink()


def plain_weights(weights: Array) -> Array:
    """Weights of four values, of the size of those given: they take a few bits each in a compressed file."""
    scale = float(np.abs(weights.astype(FLOAT32)).mean()) or 1.0
    values = scale * np.array([-1.5, -0.5, 0.5, 1.5])
    drawn: Array = np.random.default_rng(0).choice(values, weights.shape).astype(weights.dtype)
    return drawn if weights.dtype.kind == "f" or weights.dtype.name == BFLOAT16 else weights


def copy_package(folder: Path, modules: Sequence[str]) -> list[str]:
    """Copy the files of convc that importing these modules loads; the names of their modules."""
    with Scratch() as empty:  # Python puts the working folder first
        done = subprocess.run(
            [sys.executable, "-c", LISTING, *modules],
            check=True,
            capture_output=True,
            text=True,
            cwd=empty,
            env=children.environment(),
        )
    names = []
    for line in done.stdout.splitlines():
        name, _, file = line.partition(" ")
        source, parts = Path(file), name.split(".")
        is_package = source.name == "__init__.py"
        out = (
            folder.joinpath(*parts, "__init__.py")
            if is_package
            else folder.joinpath(*parts).with_suffix(".py")
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, out)
        names.append(name)
    return names

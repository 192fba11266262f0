"""Time engines on one network: in turns, each in its own process, so that none disturbs another.

A child process loads one engine, warms up, runs for a while and prints a line of JSON. The parent goes round
the engines several times and reports medians and ratios.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from convc.errors import OptionError
from convc.runtime.manifest import Manifest
from convc.verify import random_feeds, relative_error

ENGINES = ("onnxruntime", "openvino")
_WARMUP, _SECONDS, _FEWEST = 3, 2.0, 8

_CHILD = r"""
import json, os, sys, time
engine, path, threads, folder, warmup, seconds, fewest = sys.argv[1:8]
threads = int(threads)
os.environ["OMP_NUM_THREADS"] = str(threads)
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np
feeds = dict(np.load(os.path.join(folder, "feeds.npz")))
start = time.perf_counter()
if engine == "convc":
    import convc
    module = convc.load(path, threads=threads)
    run = lambda: module.run(None, feeds)
elif engine == "onnxruntime":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    run = lambda: session.run(None, feeds)
else:
    import openvino
    core = openvino.Core()
    network = core.read_model(path)
    network.reshape({p: feeds[p.any_name].shape for p in network.inputs})
    network = core.compile_model(network, "CPU", {"INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    request = network.create_infer_request()
    def run():
        request.infer(feeds)
        return [request.get_output_tensor(i).data for i in range(len(network.outputs))]
loaded = time.perf_counter() - start
for _ in range(int(warmup)):
    outputs = run()
np.savez(os.path.join(folder, engine + ".npz"), *[np.array(o) for o in outputs])
times, begin = [], time.perf_counter()
while len(times) < int(fewest) or time.perf_counter() - begin < float(seconds):
    start = time.perf_counter(); run(); times.append(time.perf_counter() - start)
print(json.dumps({"times": times, "load_s": loaded}))
"""


@dataclass(frozen=True)
class Figures:
    """Latency of one engine in milliseconds over all its runs, and how it compares.

    `ratio` is this engine's median over convc's, taken round by round; `error` is relative to convc's largest
    output.
    """

    engine: str
    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    load_s: float
    ratio: float | None = None
    error: float | None = None


def bench(
    module: Path,
    manifest: Manifest,
    model: Path | None,
    engines: Sequence[str],
    *,
    threads: int,
    rounds: int = 3,
) -> list[Figures]:
    """Time a module and, on `model`, other engines. Raises OptionError for one that is not installed."""
    feeds = random_feeds(manifest.inputs)
    everyone = ["convc", *engines]
    rows: dict[str, list[dict[str, list[float]]]] = {engine: [] for engine in everyone}
    with tempfile.TemporaryDirectory(prefix="convc-") as name:
        folder = Path(name)
        np.savez(folder / "feeds.npz", allow_pickle=False, **feeds)
        (folder / "child.py").write_text(_CHILD)
        for _ in range(rounds):
            for engine in everyone:
                rows[engine].append(_child(folder, engine, module if engine == "convc" else model, threads))
        return [_figures(engine, rows, folder) for engine in everyone]


def _child(folder: Path, engine: str, path: Path | None, threads: int) -> dict[str, list[float]]:
    arguments = [engine, str(path), str(threads), str(folder), str(_WARMUP), str(_SECONDS), str(_FEWEST)]
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, str(folder / "child.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        hint = "Install it with `pip install convc[bench]`." if "ModuleNotFoundError" in last else ""
        raise OptionError(f"{engine} could not run this network: {last}", hint=hint)
    figures: dict[str, list[float]] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _figures(engine: str, rows: dict[str, list[dict[str, list[float]]]], folder: Path) -> Figures:
    times = 1e3 * np.concatenate([row["times"] for row in rows[engine]])
    medians = {e: [statistics.median(row["times"]) for row in r] for e, r in rows.items()}
    ratio = error = None
    if engine != "convc":
        ratio = statistics.median(t / own for t, own in zip(medians[engine], medians["convc"], strict=True))
        theirs, ours = np.load(folder / f"{engine}.npz"), np.load(folder / "convc.npz")
        error = max(relative_error(theirs[key], ours[key]) for key in ours.files)
    p10, p50, p90 = (float(p) for p in np.percentile(times, [10, 50, 90]))
    load = statistics.median(float(np.max(row["load_s"])) for row in rows[engine])
    return Figures(engine, p50, p10, p90, len(times), load, ratio, error)


def to_json(figures: Sequence[Figures]) -> list[dict[str, object]]:
    """The fields of `Figures`, an object for each engine."""
    return [asdict(f) for f in figures]

"""One turn of one engine in a process of its own: load, warm up, run for a while, print a line of JSON.

Run as a script with one argument, a `convc.report.engines.Task` as JSON; the last line printed is a `Turn`.
A loader is `load(path, threads, feeds)` and returns a function that runs once and returns the outputs. An
engine that is not known here is given as a file with such a function (`Task.loader`).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

Run = Callable[[], Any]
Load = Callable[[str, int, Mapping[str, Any]], Run]


def load_convc(path: str, threads: int, feeds: Mapping[str, Any]) -> Run:
    """A module file."""
    import convc

    module = convc.load(path, threads=threads)
    return lambda: module.run(None, feeds)


def load_onnxruntime(path: str, threads: int, feeds: Mapping[str, Any]) -> Run:
    """With all graph optimisations and one thread between operators, which are its defaults."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


def load_openvino(path: str, threads: int, feeds: Mapping[str, Any]) -> Run:
    """Compiled for the shapes of `feeds`, in float32, for latency."""
    import openvino

    core = openvino.Core()
    network = core.read_model(path)
    network.reshape({port: feeds[port.any_name].shape for port in network.inputs})
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    network = core.compile_model(network, "CPU", options)
    request = network.create_infer_request()

    def run() -> list[Any]:
        request.infer(feeds)
        return [request.get_output_tensor(i).data for i in range(len(network.outputs))]

    return run


LOADERS: dict[str, Load] = {
    "convc": load_convc,
    "onnxruntime": load_onnxruntime,
    "openvino": load_openvino,
}


def loader_of(file: str) -> Load:
    """The `load` of a Python file."""
    spec = spec_from_file_location("engine_loader", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    load: Load = module.load
    return load


def resident(field: str) -> int:
    """Bytes of this process in memory: `VmRSS` now, `VmHWM` at most; 0 where the system does not tell.

    Not getrusage's ru_maxrss: on Linux that begins with what the parent had when it made this process.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:")), 0)


def take_turn(task: Mapping[str, Any]) -> dict[str, Any]:
    """Do what a task says; the fields of a `Turn`."""
    # As early as this: libraries read these when they are loaded.
    os.environ["OMP_NUM_THREADS"] = str(task["threads"])
    if not task["product"]:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy as np

    with np.load(task["feeds"]) as file:
        feeds = dict(file)
    factor = np.full((task["product"],) * 2, 0.5, "float32")
    baseline = resident("VmRSS")
    start = time.perf_counter()
    run = (loader_of(task["loader"]) if task["loader"] else LOADERS[task["engine"]])(
        task["path"], task["threads"], feeds
    )
    loaded = time.perf_counter()
    outputs = run()
    first = time.perf_counter()
    for _ in range(task["warmup"] - 1):
        outputs = run()
    np.savez(task["outputs"], *[np.array(output) for output in outputs])
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < task["fewest"] or (
        time.perf_counter() - begin < task["seconds"] and len(times) < task["most"]
    ):
        if task["product"]:
            factor @ factor  # its threads go on spinning for a while
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return {
        "times_s": times,
        "load_s": loaded - start,
        "first_s": first - loaded,
        "baseline_bytes": baseline,
        "peak_bytes": resident("VmHWM"),
    }


if __name__ == "__main__":
    # The folder of this file holds modules of convc.report, which nobody shall import by their bare names.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    print(json.dumps(take_turn(json.loads(sys.argv[1]))))

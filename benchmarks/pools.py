"""Thread pools behind the same kernels: convc's own, OpenMP's (libgomp) and TVM's.

    python benchmarks/pools.py resnet18.onnx [--processes 20] [--threads 2] [--json FILE] [--keep FOLDER]

One network is compiled once and linked three times, with a different launch hook for its parallel loops. Each
pool is then timed in fresh processes, in random order, twice over: calls in a row, and calls with a NumPy
product between them, whose threads go on spinning for a while. A row prints the median over processes of each
process's median, and how far the processes are apart (largest over smallest median), by which the pool is
chosen. Where FILE exists, further processes are added to those in it; modules in FOLDER are used again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import convc

OPENMP = """
#include "services.h"
static __thread int wanted;
void begin_call(int threads) { wanted = threads; }
void end_call(void) {}
int parallel_launch(Task task, void *data, int num_task) {
  (void)num_task;
  int status = 0;
#pragma omp parallel num_threads(wanted) reduction(| : status)
  {
    extern int omp_get_thread_num(void), omp_get_num_threads(void);
    TaskEnvironment environment = {0, omp_get_num_threads()};
    status |= task(omp_get_thread_num(), &environment, data);
  }
  return status;
}
"""

TVM = """
#include "services.h"
int TVMBackendParallelLaunch(Task task, void *data, int num_task);
void begin_call(int threads) { (void)threads; }
void end_call(void) {}
int parallel_launch(Task task, void *data, int num_task) {
  return TVMBackendParallelLaunch(task, data, num_task);
}
"""

POOLS = ("own", "openmp", "tvm")


def link_variants(model: str, threads: int, folder: Path) -> dict[str, Path]:
    """One module file a pool, all of the same kernels."""
    from importlib import resources

    from convc import compiler
    from convc.codegen import link
    from convc.codegen.cache import ObjectCache
    from convc.compilation import plan
    from convc.options import Options
    from convc.progress import Progress

    compilation = plan(model, Options(threads=threads), Progress())
    target, program = compilation.target, compilation.program
    symbols, kernels = link.distinct_kernels(program, target)
    cache = ObjectCache.open()
    own = link.runtime_objects(target, cache)
    shared = [o for o in own if "_threads_" not in o.name]
    objects = link.build_objects(kernels, cache, os.cpu_count() or 1, lambda: None)
    native = resources.files("convc.codegen").joinpath("native")

    def alternative(name: str, source: str, *flags: str) -> list[Path]:
        (folder / f"{name}.c").write_text(source)
        out = folder / f"{name}.o"
        command = [
            "cc",
            "-O2",
            "-fPIC",
            *flags,
            f"-I{native}",
            "-c",
            "-o",
            str(out),
            str(folder / f"{name}.c"),
        ]
        subprocess.run(command, check=True)
        return [*shared, out]

    parts = {
        "own": own,
        "openmp": [*alternative("openmp", OPENMP, "-fopenmp"), Path("-lgomp")],
        "tvm": [*alternative("tvm", TVM), *_tvm_libraries()],
    }
    paths = {}
    for name, runtime in parts.items():
        paths[name] = folder / f"{name}.so"
        manifest, parts_of_code = compiler.describe(compilation), [*runtime, *objects]
        weights = link.write_module(program, symbols, parts_of_code, target, paths[name], manifest.contract)
        manifest.write(paths[name], weights)
    return paths


def _tvm_libraries() -> list[Path]:
    """What the linker needs to find TVM's runtime library."""
    import tvm
    import tvm_ffi

    folders = [Path(package.__file__).parent / "lib" for package in (tvm, tvm_ffi)]
    flags = [f"-Wl,-rpath,{folder}" for folder in folders]
    # TVM's runtime finds the other library only where that is loaded already
    libraries = [folders[1] / "libtvm_ffi.so", folders[0] / "libtvm_runtime.so"]
    return [Path("-Wl,--no-as-needed"), *map(Path, flags), *libraries]


def child(path: str, threads: int, products: bool, calls: int) -> None:
    """Print the median seconds of a call."""
    module = convc.load(path, threads=threads)
    rng = np.random.default_rng(0)
    feeds = {i.name: rng.standard_normal(i.shape).astype(i.dtype) for i in module.inputs}
    matrix = rng.standard_normal((512, 512), "float32")
    times = []
    for _ in range(calls + calls // 4):
        if products:
            matrix @ matrix
        start = time.perf_counter()
        module.run(None, feeds)
        times.append(time.perf_counter() - start)
    print(statistics.median(times[calls // 4 :]))


def measure(path: Path, threads: int, products: bool, calls: int) -> float:
    """Median seconds of a call in a fresh process."""
    environment = {**os.environ, "TVM_NUM_THREADS": str(threads)}
    command = [
        sys.executable,
        __file__,
        str(path),
        "--child",
        "--threads",
        str(threads),
        "--calls",
        str(calls),
    ]
    done = subprocess.run(
        [*command, *["--products"] * products], env=environment, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def cpu_name() -> str:
    """As the system calls it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def table(record: dict[str, object]) -> str:
    """The figures as lines of text."""
    lines = [f"{'pool':8} {'between calls':14} {'median ms':>9} {'max/min':>8} {'processes':>9}"]
    times = record["milliseconds"]
    assert isinstance(times, dict)
    for case, values in sorted(times.items()):
        pool, between = case.split(", ")
        spread = max(values) / min(values)
        lines.append(f"{pool:8} {between:14} {statistics.median(values):9.3f} {spread:8.3f} {len(values):9}")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, run all processes in turns, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--pools", nargs="*", default=POOLS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--products", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.model, options.threads, options.products, options.calls)
    record = {
        "cpu": cpu_name(),
        "date": time.strftime("%Y-%m-%d"),
        "model": Path(options.model).stem,
        "threads": options.threads,
        "milliseconds": {},
    }
    if options.json and options.json.exists():
        record = json.loads(options.json.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        paths = {pool: folder / f"{pool}.so" for pool in options.pools}
        if not all(path.exists() for path in paths.values()):
            paths = link_variants(options.model, options.threads, folder)
        for _ in range(options.processes):
            cases = list(itertools.product(options.pools, (False, True)))
            random.shuffle(cases)
            for pool, products in cases:
                seconds = measure(paths[pool], options.threads, products, options.calls)
                case = f"{pool}, {'product' if products else 'nothing'}"
                record["milliseconds"].setdefault(case, []).append(round(seconds * 1e3, 3))
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))
    return None


if __name__ == "__main__":
    main()

"""A builder of modules that misbehave: what a candidate does is its configuration's number of threads."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import convc.codegen
from convc.codegen.cache import ObjectCache
from convc.codegen.link import append_weights
from convc.compilation import Compilation, plan
from convc.compiler import Options
from convc.frontends.builder import Network
from convc.progress import Progress
from convc.runtime import manifest as manifests
from convc.runtime.elf import note_source
from convc.schedules.cpu.generic import GenericConfig
from convc.tune.measurer import Builders, StationMeasurer
from convc.tune.station import Result
from convc.tune.tasks import Candidate, Task
from convc.tune.trial_module import Spec, build

GOOD, SLOW = 1, 2
BEHAVIOURS = {
    10: "for (;;) sleep(1);",
    11: "*(volatile int *)8 = 1;",
    12: "abort();",
    13: "y[count] = 1;",
    14: "y[-1] = 1;",
    15: "y[3] += 0.01f;",
    16: "y[0] = NAN;",
    17: "if (calls > 4) y[3] += 1;",
    18: "outputs[1][2] += 1;",
    19: "return -1;",
    20: "if (calls > 3) abort();",
    21: "raise(SIGILL);",
    22: "pthread_create(&other, 0, crash, 0), pthread_join(other, 0);",
    23: "deep(1 << 20);",
    24: "_exit(0);",
    25: "if (calls == 1) usleep(700000);",
    26: "raise(SIGKILL);",
    27: 'if (access(MARKER, F_OK)) { fclose(fopen(MARKER, "w")); raise(SIGKILL); }',
    28: 'if (calls == 4 && access(MARKER, F_OK)) { fclose(fopen(MARKER, "w")); raise(SIGKILL); }',
}
"""By number: statements after the right results were written to `y`."""

BUILDER_DIES, BUILDER_HANGS, REFUSED = 30, 31, 32

NATIVE = Path(convc.codegen.__file__).parent / "native"

SOURCE = """
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#define MARKER "%(marker)s"
const int convc_step_count = %(steps)d;
const int convc_keeps_denormals = 0;
static int calls;
static pthread_t other;
static void *crash(void *unused) { abort(); }
static int deep(int left) { volatile char frame[4096] = {left}; return left ? deep(left - 1) + frame[0] : 0; }
int convc_run(float **inputs, float **outputs, int threads, double *seconds) {
  struct timespec pause = {0, %(pause)d};
  float *y = outputs[0];
  const long count = %(count)d;
  for (long i = 0; i < count; i++) outputs[1][i] = inputs[0][i];
  for (long i = 0; i < count; i++) y[i] = fmaxf(inputs[0][i], 0);
  nanosleep(&pause, 0);
  calls++;
  for (int i = 0; i < %(steps)d; i++) seconds[i] = %(seconds)g;
  %(behaviour)s
  return 0;
}
"""


def one_layer() -> Compilation:
    """A network of one relu."""
    net = Network("one", seed=0)
    net.output(net.relu(net.input("x", (8, 1024))))
    return plan(net.graph, Options(threads=2), Progress())


def builders(compilation: Compilation, cache: Path, *, remote: bool = False) -> Builders:
    """Builders of candidates of that network, whose behaviour is their configuration."""
    paths = {"PYTHONPATH": str(Path(__file__).parent)}
    return Builders(compilation.target, 1 << 16, cache, "bad_kernels:Builder", paths, remote=remote)


def behaving(task: Task, number: int) -> Candidate:
    """A candidate of that layer with this behaviour."""
    return replace(task.untuned, config=GenericConfig(number))


def measured(measurer: StationMeasurer, task: Task, numbers: Sequence[int]) -> dict[int, Result]:
    """What came of candidates with these behaviours, each by its number."""
    found = measurer.measure(task, [behaving(task, number) for number in numbers])
    return {c.config.threads: result for c, result in found}


class Builder:
    """The service: relu in C, well or badly."""

    def build(self, spec: Spec, path: Path, cache: Path | None) -> None:
        """A module for the behaviour that the configuration asks for."""
        number = spec.config["threads"]
        if number == BUILDER_DIES:
            os.abort()
        if number == BUILDER_HANGS:
            time.sleep(60)
        real = path.with_suffix(".real.so")
        build(replace(spec, config={"threads": 1}), real, ObjectCache.open(cache))
        manifest = manifests.read(real)
        count = int.__mul__(*spec.workload.outputs[0].shape)
        values = {
            "count": count,
            "steps": len(manifest.steps),
            "pause": 0,
            "seconds": {GOOD: 2e-3, SLOW: 3e-3}.get(number, 1e-3),
            "behaviour": BEHAVIOURS.get(number, ""),
            "marker": path.with_suffix(".once"),
        }
        manifest = replace(manifest, target=asdict(spec.target), weights_bytes=0)
        path.with_suffix(".c").write_text(SOURCE % values + note_source(manifest.contract))
        sources = [str(path.with_suffix(".c")), *([str(NATIVE / "rpc.c")] if spec.remote else [])]
        flags = ["-shared", "-fPIC", "-pthread", "-O1"]
        subprocess.run(["cc", *flags, "-o", str(path), *sources, "-lm"], check=True)
        manifest.write(path, append_weights((), 0, path))

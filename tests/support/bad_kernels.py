"""A builder of modules that misbehave: what a candidate does is its configuration's number of threads."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path

from convc.codegen.cache import ObjectCache
from convc.runtime import manifest as manifests
from convc.runtime.manifest import Weights
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
}
"""By number: statements after the right results were written to `y`."""

BUILDER_DIES, BUILDER_HANGS, REFUSED = 30, 31, 32

SOURCE = """
#include <math.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static int calls;
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
        }
        path.with_suffix(".c").write_text(SOURCE % values)
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(path), str(path.with_suffix(".c")), "-lm"]
        subprocess.run(command, check=True)
        size = -(-path.stat().st_size // manifests.PAGE) * manifests.PAGE
        with path.open("r+b") as file:
            file.truncate(size)
        replace(manifest, target={**asdict(spec.target)}).write(path, Weights(size, 0))

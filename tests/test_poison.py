"""Nothing reads memory that was never written: small awkward layers, and networks, in memory full of NaN."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import networks
import numpy as np
import pytest
from case import Case
from kernels import TARGETS, Job, assert_right, assert_within_estimate, check_all
from layer_cases import conv, deconv, separable
from poison import poisoned

import convc
from convc.errors import TypeRuleError
from convc.evaluate import evaluate
from convc.ir import opdef
from convc.lowering.base import Lowering
from convc.lowering.registry import LOWERINGS
from convc.schedules.cpu import SCHEDULES
from convc.target import Target
from convc.verify import compare, random_inputs
from convc.workload import Workload

LAYER_ERROR = 1e-5
"""As in `test_compile.py`, which compiles the same modules."""
EACH = 2
"""Layers for each lowering."""

OTHERS = ("gemm", "gemm_24bit", "winograd6", "winograd2_24bit", "winograd4_24bit")
"""They have no layers with windows, or are the code of others with other matrices or weights."""

SPATIAL = {lowering.schedule: lowering for lowering in LOWERINGS if lowering.name not in OTHERS}


def small_layer(rng: np.random.Generator) -> Case:
    """A convolution, a transposed or a separable one, of a few pixels, taps and channels, padded at will."""

    def several(*choices: int, axes: int) -> tuple[int, ...]:
        return tuple(int(rng.choice(choices)) for _ in range(axes))

    axes = int(rng.choice([1, 2, 2, 2, 3]))
    n, channels = int(rng.integers(1, 4)), int(rng.choice([1, 2, 3, 8, 16, 17, 24]))
    size, kernel = several(1, 2, 3, 5, 9, 14, axes=axes), several(1, 2, 3, 3, 4, 5, 6, axes=axes)
    pads = tuple((int(rng.integers(0, k + 1)), int(rng.integers(0, k + 1))) for k in kernel)
    attrs = {"strides": several(1, 1, 1, 2, axes=axes), "dilations": several(1, 1, 1, 2, axes=axes)}
    kind, name = rng.choice(["dense", "groups", "depthwise", "transposed", "separable"]), "small"
    out = int(rng.choice([1, 4, 16, 20, 33]))
    if kind == "separable":
        op, kernel = str(rng.choice(["depthwise_pointwise", "pointwise_depthwise"])), (*kernel, 3)[:2]
        pads = tuple((int(rng.integers(k)), int(rng.integers(k))) for k in kernel)
        x = (n, channels, *(*size, 4)[:2])
        return separable(op, name, x, kernel, out, pads=pads, strides=(*attrs["strides"], 1)[:2])
    if kind == "transposed":
        return deconv(name, (n, channels, *size), (channels, out, *kernel), bias=True, **attrs)
    groups = {"dense": 1, "groups": math.gcd(channels, out), "depthwise": channels}[str(kind)]
    out = channels if kind == "depthwise" else out
    w = (out, channels // groups, *kernel)
    return conv(name, (n, channels, *size), w, pads=pads, groups=groups, bias=bool(rng.integers(2)), **attrs)


def taken(lowering: Lowering, machine: Target, rng: np.random.Generator) -> Iterator[Job]:
    """Kernels of one lowering for layers that it takes."""
    while True:
        case = small_layer(rng)
        try:
            outputs = opdef(case.op).infer(case.attrs, case.inputs)
        except TypeRuleError:
            continue  # the kernel does not fit into the map
        constant = tuple(i in case.constants for i in range(len(case.inputs)))
        w = Workload(case.op, case.attrs, case.inputs, outputs, constant, len(case.inputs))
        if case.op in lowering.ops and outputs[0].size and lowering.applies(w, machine) is None:
            yield Job.of(case, lowering, SCHEDULES[lowering.schedule], machine)


def close(job: Job, arrays, result) -> None:
    """Compare with float64 as each lowering is compared."""
    exact = job.lowering.exact or len(job.workload.inputs[1].shape) != len(job.workload.inputs[0].shape)
    (assert_right if exact else assert_within_estimate)(job, arrays, result)


@pytest.mark.parametrize("name", sorted(SPATIAL))
def test_kernels_read_only_what_they_have_written(name):
    rng = np.random.default_rng(len(name))
    jobs = taken(SPATIAL[name], TARGETS[1], rng)
    with poisoned() as filled:
        check_all([next(jobs) for _ in range(EACH)], close)
    assert len(filled) == EACH


def test_networks_read_only_what_they_have_written(tmp_path):
    """In a process whose aligned memory begins as NaN; borders of zeros are part of the workspace."""
    shim = tmp_path / "poison.so.1"
    source = Path(__file__).parent / "support" / "poison_memory.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(shim), str(source)], check=True)
    wanted = {}
    for name, make in networks.NETWORKS.items():
        graph = make()
        convc.compile(graph, threads=2, max_error=LAYER_ERROR, verify=False).save(tmp_path / f"{name}.so")
        feeds = random_inputs(graph, seed=7)
        np.savez(tmp_path / f"{name}.in.npz", **feeds)
        wanted[name] = evaluate(graph, feeds), LAYER_ERROR * len(graph.nodes)
    child = Path(__file__).parent / "support" / "poisoned_child.py"
    environment = os.environ | {"LD_PRELOAD": str(shim)}
    subprocess.run([sys.executable, "-P", str(child), str(tmp_path)], env=environment, check=True, timeout=60)
    for name, (expected, limit) in wanted.items():
        with np.load(tmp_path / f"{name}.out.npz") as found:
            assert max(compare([found[key] for key in found.files], expected)) < limit, name

"""What the assembler makes of every schedule: registers, spills, shared memory, and which instructions."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from device_batch import merged
from device_generic_jobs import ROWS, device_jobs_of, ends
from device_jobs import device
from device_table import CELLS, TABLE, Row, job_of
from layer_cases import conv
from ptxas import compiled, faults, needs_cuda_compiler

from convc.codegen import nvcc

pytestmark = needs_cuda_compiler

FITS = [
    (schedule, precision, arch)
    for schedule, precision in CELLS
    for arch in TABLE[schedule].architectures
    if (precision, arch) != ("bfloat16", "sm_80")
]


@pytest.mark.parametrize(("schedule", "precision", "arch"), FITS)
def test_every_schedule_fits_its_device(schedule, precision, arch):
    """All rows on sm_90 in float32, half of them on tensor cores; fewer where registers are used as there."""
    step = 4 if arch != "sm_90" or precision == "bfloat16" else 1 if precision == "float32" else 2
    jobs = list(TABLE[schedule].jobs(precision, arch))[::step]
    codes = [job.code(f"k{i}") for i, job in enumerate(jobs)]
    gpu = jobs[0].target.device
    assert faults(codes, compiled(codes, gpu.code), gpu) == []


@pytest.mark.parametrize(("schedule", "precision"), CELLS)
def test_products_use_the_cores_that_were_asked_for(schedule, precision):
    """And nothing of other precisions; operands that are needed later come by asynchronous copies."""
    tested = TABLE[schedule]
    jobs = list(tested.jobs(precision))[::6]
    codes = [job.code(f"k{i}") for i, job in enumerate(jobs)]
    arch = jobs[0].target.device.code
    ptx = "".join(nvcc.compile_ptx(source, arch) for source, _ in merged(codes))
    bodies = re.split(r"\.visible \.entry (\w+)", ptx)
    functions = dict(zip(bodies[1::2], bodies[2::2], strict=True))
    for job, code in zip(jobs, codes, strict=True):
        product, *rest = (functions[entry.function] for entry in code.launches)
        about = f"{job.workload}: {job.config}"
        others = re.sub(tested.multiply[precision], "", product)
        assert others != product, about
        assert not re.search(r"mma\.sync|mma_async|tf32", others + "".join(rest)), about
        assert tested.loads in product, about
        assert ("cp.async.cg.shared.global" in product) == (job.config.stages > 1), about
        assert "@!p st.shared" not in code.source, about  # a branch for each copy at a border
        assert "fence.proxy.async;" not in product, about  # a wait for the whole device
    assert any("_pred_" in code.source for code in codes)


@pytest.mark.parametrize(("precision", "arch", "step"), [("float32", "sm_90", 2), ("float16", "sm_80", 4)])
def test_every_operator_fits_its_device(precision, arch, step):
    """Sine, cosine and tangent reduce large angles in an array of 28 bytes, which is their only stack."""
    target = device(precision, arch)
    jobs = device_jobs_of(ends(ROWS)[::step], target)
    codes = [job.code(f"k{i}") for i, job in enumerate(jobs)]
    cubins = compiled(codes, arch)
    assert faults(codes, cubins, target.device, stack=32) == []
    plain = [code for job, code in zip(jobs, codes, strict=True) if job.w.op not in ("sin", "cos", "tan")]
    assert faults(plain, cubins, target.device) == []


def test_faults_are_found():
    """A thread of 8 x 8 sums has not enough registers if a block may have 1024 threads."""
    row = Row(
        conv("faults", (1, 64, 16, 16), (128, 64, 3, 3)), (), {"m": 128, "n": 128, "stages": 3, "split": 1}
    )
    job = job_of(row, TABLE["implicit_gemm"].lowering, "float32")
    code, gpu = job.code(), job.target.device
    assert faults([code], compiled([code], gpu.arch), gpu) == []
    crowded = replace(code, source=code.source.replace("__launch_bounds__(256)", "__launch_bounds__(1024)"))
    (fault,) = faults([crowded], compiled([crowded], gpu.arch), gpu)
    assert "kernel_kernel spills or has a stack" in fault
    (registers, memory) = faults(
        [code], compiled([code], gpu.arch), replace(gpu, registers=1024, block_shared_memory=1024)
    )
    assert re.search(r"\d+ registers for each of 256 threads", registers)
    assert f"0 + {job.config.tile.shared_bytes} bytes of shared memory" in memory

"""Schedules of matrix products on a GPU: emulated CUDA source and serial programs against float64.

Each layer of the table under each of its schedules; what else is asked of them is asked of the same rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from cuda_emulator import EmulationError
from device_batch import check_emulated, libraries, run_serially
from device_jobs import DeviceJob, bits, launch_all
from device_table import ADD_BIASED, CELLS, RELU, TABLE, Row, covering, job_of, product
from layer_cases import conv

from convc.codegen.device import DeviceCode
from convc.ops.linear import GemmAttrs
from convc.schedules.base import NotApplicable

SEEDS = (1, 2, 3)
STEPS = {"bfloat16": 5, "tf32": 3}
"""Of the rows of the table every so many, for precisions whose programs are nearly those of another."""
SPACES = (
    Row(conv("space", (1, 40, 14, 13), (136, 40, 3, 3), pads=1, bias=True), (*ADD_BIASED, RELU)),
    Row(product("space", "gemm", GemmAttrs(), (70, 264), (264, 75))),
)


@pytest.mark.parametrize(("schedule", "precision"), CELLS)
def test_source_equals_float64(tmp_path, schedule, precision):
    """Programs in bfloat16 differ from those in float16 in one instruction, tf32 is float32 cut off."""
    check_emulated(list(TABLE[schedule].jobs(precision))[:: STEPS.get(precision, 1)], tmp_path, seeds=(1, 2))


@pytest.mark.parametrize(("schedule", "precision"), [cell for cell in CELLS if cell[1] != "bfloat16"])
def test_program_equals_float64(schedule, precision):
    """Not in bfloat16, which TVM's code for a CPU takes for integers; fragments are those of float16."""
    tested = TABLE[schedule]
    jobs = list(tested.jobs(precision))[:: STEPS.get(precision, 1)]
    inputs = [job.draw(seed) for seed, job in enumerate(jobs)]
    arguments = [job.arguments(arrays) for job, arrays in zip(jobs, inputs, strict=True)]
    results = run_serially([job.function(**tested.serial) for job in jobs], arguments)
    for job, arrays, stored in zip(jobs, inputs, results, strict=True):
        job.assert_right(arrays, job.result(stored[-1]))


@pytest.mark.parametrize("row", SPACES, ids=lambda row: row.id)
@pytest.mark.parametrize("schedule", TABLE)
def test_every_configuration_computes_the_same(tmp_path, schedule, row):
    tested = TABLE[schedule]
    jobs = covering(job_of(row, tested.lowering, tested.precisions[0]))
    assert len(jobs) > 5
    check_emulated(jobs, tmp_path, seeds=(1,))


@pytest.mark.parametrize(("schedule", "precision"), CELLS)
def test_rows_are_as_awkward_as_they_should_be(schedule, precision):
    configs = [job.config for job in TABLE[schedule].jobs(precision)]
    assert min(c.split for c in configs) == 1 < max(c.split for c in configs)
    assert len({c.stages for c in configs}) > 2


@pytest.mark.parametrize("schedule", TABLE)
def test_a_tile_beyond_the_product_is_refused(schedule):
    tested = TABLE[schedule]
    job = job_of(SPACES[0], tested.lowering, tested.precisions[0])
    with pytest.raises(
        NotApplicable, match=r"Config\(m=1024.* does not fit GemmProblem\(groups=1, m=182, n=136"
    ):
        replace(job, config=replace(job.config, m=1024)).function()


# --- what is wrong must be noticed ---

ROWS = {"implicit_gemm_wgmma": 128}
"""Results of two warpgroups: wgmma in the emulator makes the threads of one wait for each other anyway."""
MUTATED = conv("mutated", (1, 64, 7, 11), (72, 64, 3, 3), pads=1, bias=True)
"""Its channels fill every iteration: where nothing but padding is multiplied, a wrong index harms nobody."""
BARRIER = r"__syncthreads\(\);"
WAIT = r"tvm_builtin_ptx_cp_async_wait_group_async_wait_group_\d\(\);"
INDEX = r"(?<=_ptr\[)(?!\d*\];)|(?<=_ptr, )(?=\()"
"""Where the index of an element begins, or an offset of an asynchronous copy."""


def mutants(code: DeviceCode, pattern: str, text: str, most: int = 100) -> list[str]:
    """Sources with one match of the pattern in the kernel's body replaced, for so many matches at most."""
    start = re.search(r"__global__[^;{]*\{", code.source)
    assert start is not None
    matches = list(re.compile(pattern).finditer(code.source, start.end()))
    chosen = matches[:: -(-len(matches) // most)]
    return [code.source[: m.start()] + text + code.source[m.end() :] for m in chosen]


def unnoticed(job: DeviceJob, code: DeviceCode, sources: Sequence[str], folder) -> list[int]:
    """Which of the sources give the right numbers in all orders of threads that are tried."""
    arrays, codes = job.draw(), []
    for i, source in enumerate(sources):
        (launch,) = code.launches
        name = f"mutant{i}"
        codes.append(
            DeviceCode(
                source.replace(launch.function, name), (replace(launch, function=name),), code.scratch_bytes
            )
        )
    built = zip(codes, libraries(codes, folder), strict=True)
    return [
        i
        for i, (made, library) in enumerate(built)
        if all(_right(job, arrays, made, library, s) for s in SEEDS)
    ]


def _right(job: DeviceJob, arrays, code: DeviceCode, library, seed: int) -> bool:
    arguments = job.arguments(arrays)
    try:
        launch_all(code, library, [bits(a) for a in arguments], seed)
        job.assert_right(arrays, job.result(arguments[-1]))
    except (EmulationError, AssertionError):
        return False
    return True


@pytest.fixture(params=TABLE)
def mutated(request) -> DeviceJob:
    """A pipelined kernel, which is right as it is."""
    tested = TABLE[request.param]
    fields = {"m": ROWS.get(request.param, 64), "n": 32, "stages": 3, "split": 1}
    return job_of(Row(MUTATED, (RELU,), fields), tested.lowering, tested.precisions[0])


def test_each_barrier_and_wait_is_needed(tmp_path, mutated):
    """In three stages: a barrier before a stage is filled again, and one behind each wait, three of them."""
    code = mutated.code()
    barriers, waits = mutants(code, BARRIER, ""), mutants(code, WAIT, "")
    assert (len(barriers), len(waits)) == (4, 3)
    assert unnoticed(mutated, code, [code.source, *barriers, *waits], tmp_path) == [0]


def test_each_index_matters(tmp_path, mutated):
    """Indices of sums and operands in registers, of shared and of global memory, one too large."""
    code = mutated.code()
    moved = mutants(code, INDEX, "1 + ", most=16)
    assert len(moved) > 8
    assert unnoticed(mutated, code, [code.source, *moved], tmp_path) == [0]

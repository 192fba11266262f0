"""The CUDA emulator: right programs give right numbers, and each kind of wrong one is noticed."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from cuda_emulator import EmulationError
from cuda_snippets import kernel, launch
from cuda_translate import TranslationError, translate
from serial_check import build_serial

from convc.codegen.pipeline import tvm

from tvm import s_tir, te  # isort: skip

SOURCES = Path(__file__).parent / "support" / "cuda_sources"
CUDA = tvm.target.Target(
    {"kind": "cuda", "arch": "sm_90", "max_threads_per_block": 1024, "thread_warp_size": 32}, host="llvm"
)
RNG = np.random.default_rng(0)


def without(source, pattern, index):
    """The source without one of the statements that the pattern finds."""
    found = list(re.finditer(pattern, source))[index]
    return source[: found.start()] + source[found.end() :]


# --- generated source ---------------------------------------------------------------------------------------


def tiled_matmul(n, pipelined):
    """64 x 64 x 16 tiles in shared memory, 16 x 16 threads with 4 x 4 sums each."""
    a, b = te.placeholder((n, n), name="A"), te.placeholder((n, n), name="B")
    k = te.reduce_axis((0, n), "k")
    c = te.compute((n, n), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="C")
    sch = s_tir.Schedule(te.create_prim_func([a, b, c]))
    block = sch.get_sblock("C")
    i, j, k = sch.get_loops(block)
    (bi, ty, ti), (bj, tx, tj) = (sch.split(loop, [None, 16, 4]) for loop in (i, j))
    k0, k1 = sch.split(k, [None, 16])
    sch.reorder(bi, bj, ty, tx, k0, k1, ti, tj)
    for loop, thread in ((bi, "blockIdx.y"), (bj, "blockIdx.x"), (ty, "threadIdx.y"), (tx, "threadIdx.x")):
        sch.bind(loop, thread)
    sch.reverse_compute_at(sch.cache_write(block, 0, "local"), tx)
    for index in (0, 1):
        tile = sch.cache_read(block, index, "shared")
        sch.compute_at(tile, k0)
        _, y, x = sch.split(sch.fuse(*sch.get_loops(tile)[-2:]), [None, 16, 16])
        sch.bind(y, "threadIdx.y")
        sch.bind(x, "threadIdx.x")
    for index in (0, 1):
        sch.compute_at(sch.cache_read(block, index, "local"), k1)
    sch.decompose_reduction(block, k0)
    if pipelined:
        sch.annotate(k0, "software_pipeline_stage", [0, 0, 1])
        sch.annotate(k0, "software_pipeline_order", [0, 1, 2])
    return sch.mod


def tiled_source(pipelined):
    with CUDA:
        return tvm.tirx.build(tiled_matmul(128, pipelined), target=CUDA).imports[0].inspect_source()


def product_error(folder, source, block, depth, dtype, shared=0):
    """The largest error of a 128 x 128 product, in units of the bound for any order of float32 sums."""
    a, b = (RNG.standard_normal(shape).astype(dtype) for shape in ((128, depth), (depth, 128)))
    c = np.full((128, 128), np.nan, np.float32)
    launch(folder, source, block, a, b, c, function="main_kernel", grid=(2, 2), shared=shared)
    a, b = a.astype(np.float64), b.astype(np.float64)
    bound = depth * np.finfo(np.float32).eps * (abs(a) @ abs(b))
    return float((abs(c - a @ b) / bound).max())


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_tiled_product_is_right_and_needs_each_of_its_barriers(tmp_path, pipelined):
    source = tiled_source(pipelined)
    assert product_error(tmp_path, source, (16, 16), 128, np.float32) < 1
    barriers = source.count("__syncthreads();")
    assert barriers == 2
    for index in range(barriers):
        wrong = without(source, r"__syncthreads\(\);", index)
        assert not product_error(tmp_path, wrong, (16, 16), 128, np.float32) < 1


def test_an_index_that_is_one_off_leaves_its_array_or_gives_wrong_numbers(tmp_path):
    source = tiled_source(False)
    beyond, count = re.subn(r"(B_shared_local_ptr\[\w+\] = B_shared_ptr\[)", r"\g<1>1 + ", source)
    assert count == 1
    with pytest.raises(EmulationError, match=r"line \d+: index 1024 of an array 'float ?\[1024\]'"):
        product_error(tmp_path, beyond, (16, 16), 128, np.float32)
    neighbour, count = re.subn(r"\+ k_1\)\]", "+ (k_1 ^ 1))]", source)
    assert count == 1
    assert not product_error(tmp_path, neighbour, (16, 16), 128, np.float32) < 1


TENSOR_CORE = {"tensor_core_1_stage": 2, "tensor_core_3_stages": 4}


@pytest.mark.parametrize("name", TENSOR_CORE)
def test_tensor_cores_and_asynchronous_copies_of_generated_source(tmp_path, name):
    source = (SOURCES / f"{name}.cu").read_text()
    assert product_error(tmp_path, source, (32, 4), 256, np.float16, shared=29184) < 1


@pytest.mark.parametrize(
    ("name", "index"), [(n, i) for n, count in TENSOR_CORE.items() for i in range(count)]
)
def test_each_barrier_of_the_tensor_core_product_is_needed(tmp_path, name, index):
    wrong = without((SOURCES / f"{name}.cu").read_text(), r"__syncthreads\(\);", index)
    assert not product_error(tmp_path, wrong, (32, 4), 256, np.float16, shared=29184) < 1


@pytest.mark.parametrize("index", range(3))
def test_each_wait_for_copies_is_needed(tmp_path, index):
    source = (SOURCES / "tensor_core_3_stages.cu").read_text()
    wrong = without(source, r"tvm_builtin_ptx_cp_async_wait_group_async_wait_group_\d\(\);", index)
    assert not product_error(tmp_path, wrong, (32, 4), 256, np.float16, shared=29184) < 1


def test_serial_check_runs_a_pipelined_schedule_on_the_cpu():
    a, b = (RNG.standard_normal((128, 128)).astype(np.float32) for _ in "ab")
    c = tvm.runtime.empty((128, 128), "float32")
    build_serial(tiled_matmul(128, True)["main"])(tvm.runtime.tensor(a), tvm.runtime.tensor(b), c)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = 128 * np.finfo(np.float32).eps * (abs(a.astype(np.float64)) @ abs(b.astype(np.float64)))
    assert (abs(c.numpy() - exact) <= bound).all()


# --- what is reported ---------------------------------------------------------------------------------------


def test_an_unknown_instruction_is_named():
    source = kernel(
        '  asm volatile("tcgen05.alloc.cta_group::1.sync.aligned.b32 [%0], %1;" :: "l"(a), "r"(1));'
    )
    with pytest.raises(
        TranslationError, match=r"line 2: PTX instruction 'tcgen05\.alloc.*add it to cuda_ptx"
    ):
        translate(source)


def test_operands_of_the_wrong_kind_are_named():
    source = kernel('  float r; asm("cvt.rna.tf32.f32 %0, %1;" : "=f"(r) : "f"(*a));')
    with pytest.raises(
        TranslationError, match=r"'cvt\.rna\.tf32\.f32' has operands of kinds 'ff'; known are r:f"
    ):
        translate(source)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "if (threadIdx.x < 40) __syncthreads();",
            "threads 0-39 wait in __syncthreads; threads 40-63 have ended",
        ),
        (
            "if (threadIdx.x != 7) __syncwarp();",
            r"threads 0-6, 8-31 wait in __syncwarp; threads 7, 32-63 have",
        ),
        (
            "if (threadIdx.x % 2) __syncwarp(); else __shfl_sync(0xffffffff, 1, 0);",
            "while other lanes of the same warp are in",
        ),
        (
            "*(float4*)(a + threadIdx.x + 1) = make_float4(1, 1, 1, 1);",
            r"line 2: .*'(struct )?float4' at .* of 16",
        ),
        ("half2* h = (half2*)((half*)a + 1); h->x = 1.0f;", r"'(struct )?half2' at .* not a multiple of 4"),
        (
            "a[64 + 1000 * threadIdx.x] = 1;",
            r"block \(0, 0, 0\) of 'f'.*behind the end of argument 0, float32",
        ),
        ("a[-1024 - (int)threadIdx.x] = 1;", "bytes before argument 0"),
        ("__shared__ float s[4]; s[threadIdx.x] = 1; a[0] = s[1];", r"index \d+ of an array 'float ?\[4\]'"),
        ("a[0] = 7 / (int)(threadIdx.x / 64);", "an integer division by zero"),
        ("__cvta_generic_to_shared(a);", "is not in shared memory"),
        ('asm volatile("st.shared.u32 [%0], %1;" :: "r"(1 << 20), "r"(0));', "out of bounds"),
        ("extern __shared__ float d[]; d[3] = 1;", "wrote behind its dynamic shared memory, up to 4 bytes"),
        (
            "volatile float big[60000]; big[threadIdx.x] = 1; a[0] = big[0];",
            "more than 131072 bytes of stack",
        ),
    ],
)
def test_what_a_gpu_would_not_report(tmp_path, body, message):
    with pytest.raises(EmulationError, match=message):
        launch(tmp_path, kernel(body), (64,), np.zeros(64, np.float32), shared=12)


def test_a_write_just_beside_an_array_is_reported(tmp_path):
    with pytest.raises(EmulationError, match="wrote next to argument 0, float32 of shape"):
        launch(tmp_path, kernel("  a[threadIdx.x] = 1;"), (4,), np.zeros(3, np.float32))


def test_memory_that_was_never_written_is_nan(tmp_path):
    body = """
  __shared__ float s[32];
  alignas(64) float l[8];
  a[blockIdx.x * 2] = s[blockIdx.x];
  a[blockIdx.x * 2 + 1] = l[blockIdx.x];
  s[blockIdx.x + 1] = 1;
"""
    a = np.zeros(8, np.float32)
    launch(tmp_path, kernel(body), (1,), a, grid=(4,))
    assert np.isnan(a).all()


def test_launches_that_cannot_be_are_refused(tmp_path):
    source = 'extern "C" __global__ void __launch_bounds__(64) f(float* a) { a[0] = 1; }'
    with pytest.raises(EmulationError, match="launched with 128 threads; its launch bounds are 64"):
        launch(tmp_path, source, (128,), np.zeros(1, np.float32))
    with pytest.raises(EmulationError, match="There is no kernel 'g'"):
        launch(tmp_path, source, (64,), np.zeros(1, np.float32), function="g")


def test_a_library_that_is_built_again_is_the_new_one(tmp_path):
    a = np.zeros(1, np.float32)
    for value in (1, 2):
        launch(tmp_path, kernel(f"  a[0] = {value};"), (1,), a)
        assert a[0] == value


def test_ten_thousand_barriers_are_fast_enough_to_use(tmp_path):
    body = "  for (int i = 0; i < 10000; ++i) __syncthreads();\n  a[threadIdx.x] = 1;"
    a = np.zeros(256, np.float32)
    launch(tmp_path, kernel(body), (256,), a)
    start = time.perf_counter()
    launch(tmp_path, kernel(body), (256,), a)
    # 0.1 s on a slow core; through the kernel of the operating system it would be 3 s
    assert time.perf_counter() - start < 20
    assert (a == 1).all()

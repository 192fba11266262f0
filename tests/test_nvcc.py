"""CUDA compilers: nvcc and NVRTC on small kernels, what they report, and what is said where there is none."""

import pytest
from ptxas import has_nvcc, has_nvrtc, needs_cuda_compiler

from convc.codegen import nvcc
from convc.errors import CompileError, TargetError

# The head of what TVM's code generator writes, cut to what the two compilers read differently.
PREAMBLE = """
#ifdef __CUDACC_RTC__
  #include <cuda/std/cstdint>
  using cuda::std::uint8_t;
  using cuda::std::int64_t;
  using cuda::std::uint64_t;
  #include <cuda/std/type_traits>
  namespace std {
    using cuda::std::is_same;
    using cuda::std::is_same_v;
    using cuda::std::is_integral;
    using cuda::std::is_signed;
    using cuda::std::is_unsigned;
    using cuda::std::is_floating_point;
    using cuda::std::enable_if;
    using cuda::std::conditional;
  }
#else
  #include <cstdint>
  #include <type_traits>
  #include <cuda.h>
#endif
#include <cuda_fp16.h>
#include <mma.h>
static_assert(sizeof(int64_t) == 8 && std::is_integral<int>::value && !std::is_integral<float>::value, "");
static_assert(std::is_same_v<int, int> && std::is_signed<int>::value && std::is_unsigned<uint8_t>::value, "");
"""
KERNELS = (
    PREAMBLE
    + """
extern "C" __global__ void __launch_bounds__(128) reversed(half* a, float* b) {
  __shared__ float tile[128];
  tile[threadIdx.x] = __half2float(a[threadIdx.x]);
  __syncthreads();
  b[threadIdx.x] = tile[127 - threadIdx.x] / b[threadIdx.x];
}
extern "C" __global__ void __launch_bounds__(1024) spilling(float* a) {
  float x[64];
  for (int i = 0; i < 64; ++i) x[i] = a[i * 1024 + threadIdx.x];
  __syncthreads();
  for (int j = 0; j < 64; ++j) {
    float s = 0;
    for (int i = 0; i < 64; ++i) s += x[i] * a[i + j];
    a[j * 1024 + threadIdx.x] = s;
  }
}
"""
)
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_90a")


@pytest.fixture(
    params=[
        pytest.param("nvcc", marks=pytest.mark.skipif(not has_nvcc, reason="no nvcc")),
        pytest.param("nvrtc", marks=pytest.mark.skipif(not has_nvrtc, reason="no NVRTC")),
    ]
)
def compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each compiler in turn, as if it were the only one."""
    if request.param == "nvrtc":
        monkeypatch.setattr(nvcc, "_find_nvcc", lambda: None)
    return str(request.param)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_gives_an_elf_image_and_a_report(compiler: str, arch: str) -> None:
    cubin = nvcc.compile_cubin(KERNELS, arch)
    assert cubin.image.startswith(b"\x7fELF")
    reports = {report.name: report for report in cubin.functions}
    assert set(reports) == {"reversed", "spilling"}
    assert reports["reversed"].shared_bytes == 512
    assert reports["reversed"].barriers == 1
    assert 8 <= reports["reversed"].registers <= 40
    assert reports["reversed"].spill_stores == reports["reversed"].spill_loads == 0
    # 64 values do not fit beside anything else where 1024 threads leave each of them 64 registers
    assert reports["spilling"].registers <= 64
    assert reports["spilling"].spill_stores > 0
    assert reports["spilling"].spill_loads > 0
    assert reports["spilling"].stack_bytes > 0


def test_ptx_is_text_and_fast_math_is_off_unless_asked_for(compiler: str) -> None:
    exact = nvcc.compile_ptx(KERNELS, "sm_90")
    assert ".entry reversed" in exact
    assert "div.rn.f32" in exact
    assert "div.approx" in nvcc.compile_ptx(KERNELS, "sm_90", fast_math=True)


def test_instructions_of_one_generation_need_its_architecture(compiler: str) -> None:
    source = 'extern "C" __global__ void f() { asm volatile("wgmma.fence.sync.aligned;"); }'
    assert nvcc.compile_cubin(source, "sm_90a").image
    with pytest.raises(CompileError, match=r"wgmma\.fence"):
        nvcc.compile_cubin(source, "sm_90")


def test_the_compilers_words_are_in_the_error(compiler: str) -> None:
    with pytest.raises(CompileError, match="undefined_thing"):
        nvcc.compile_cubin('extern "C" __global__ void f(int* a) { *a = undefined_thing; }', "sm_90")


def test_the_identity_names_compiler_and_version(compiler: str) -> None:
    identity = nvcc.compiler_identity()
    assert identity.startswith(compiler)
    assert any(character.isdigit() for character in identity)


def test_what_is_no_architecture_is_refused() -> None:
    with pytest.raises(TargetError, match="'compute_90' is not a CUDA architecture"):
        nvcc.compile_cubin(KERNELS, "compute_90")


def test_without_a_compiler_the_error_says_what_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvcc, "_find_nvcc", lambda: None)
    monkeypatch.setattr(nvcc, "_load_nvrtc", lambda path: None)
    with pytest.raises(TargetError, match=r"\$CUDA_HOME/bin.*libnvrtc\.so.*pip install nvidia-cuda-nvrtc"):
        nvcc.compile_cubin(KERNELS, "sm_90")


def test_a_compiler_that_is_named_and_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDACXX", "/no/such/nvcc")
    with pytest.raises(TargetError, match=r"\$CUDACXX names '/no/such/nvcc'"):
        nvcc.compile_cubin(KERNELS, "sm_90")


@needs_cuda_compiler
def test_disassembly_shows_instructions_or_says_what_is_missing() -> None:
    image = nvcc.compile_cubin(KERNELS, "sm_90").image
    if nvcc._tool("cuobjdump") or nvcc._tool("nvdisasm"):
        assert "BAR.SYNC" in nvcc.disassemble(image)
    else:
        with pytest.raises(TargetError, match=r"Neither cuobjdump nor nvdisasm.*nvidia-cuda-nvdisasm"):
            nvcc.disassemble(image)


@pytest.mark.parametrize(
    ("identity", "driver"),
    [
        ("nvcc Build cuda_13.0.r13.0/compiler.36424714_0 /usr/bin/nvcc", 13000),
        ("nvrtc 12.8 libnvrtc.so.12", 12000),
        ("emulation", 0),
    ],
)
def test_code_of_a_major_version_loads_with_any_driver_of_it(identity: str, driver: int) -> None:
    assert nvcc.needed_driver(identity) == driver

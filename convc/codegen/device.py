"""One kernel for a GPU: a scheduled program in; CUDA source, the launches that it takes and its scratch out.

TVM splits the program into functions for the device and a host function that allocates what lies between
them and launches one after the other. The host function is not compiled: it is read, and becomes a list.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from convc.codegen.device_passes import device_passes, finish_device
from convc.codegen.pipeline import tvm
from convc.dtype import BFLOAT16, FLOAT16, FLOAT32, DType
from convc.target import Gpu

import tvm_ffi  # isort: skip
from tvm import tirx  # isort: skip

ALIGNMENT = 256
"""Bytes to which buffers in scratch memory are aligned, as the CUDA driver aligns its allocations."""

KERNEL_LAUNCH = 2  # tvm::CallingConv::kDeviceKernelLaunch


@dataclass(frozen=True)
class Scratch:
    """A buffer between the launches of a kernel: its offset in the kernel's scratch memory."""

    offset: int


@dataclass(frozen=True)
class KernelLaunch:
    """One launch: the function, its geometry, and for each pointer that it takes a parameter or scratch.

    `arguments` are numbers of the kernel's parameters, or places in scratch.
    """

    function: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    arguments: tuple[int | Scratch, ...]


@dataclass(frozen=True)
class DeviceCode:
    """A kernel's source, its launches in order, and the bytes of scratch memory that they share."""

    source: str
    launches: tuple[KernelLaunch, ...]
    scratch_bytes: int

    def to_json(self) -> str:
        """All of it as text, for the cache."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DeviceCode:
        """What `to_json` wrote."""
        data = json.loads(text)
        launches = tuple(
            KernelLaunch(
                entry["function"],
                tuple(entry["grid"]),
                tuple(entry["block"]),
                entry["shared_bytes"],
                tuple(a if isinstance(a, int) else Scratch(a["offset"]) for a in entry["arguments"]),
            )
            for entry in data["launches"]
        )
        return cls(data["source"], launches, data["scratch_bytes"])


def cuda_target(gpu: Gpu) -> Any:
    """The TVM target that stands for a device."""
    return tvm.target.Target(
        {
            "kind": "cuda",
            "arch": gpu.arch,
            "max_threads_per_block": 1024,
            "thread_warp_size": 32,
            "max_shared_memory_per_block": gpu.block_shared_memory,
        },
        host=tvm.target.Target("llvm"),
    )


@tvm_ffi.register_global_func("tvm_callback_cuda_compile", override=True)  # type: ignore[untyped-decorator]
def _not_by_tvm(source: str) -> bytes:
    """Where a driver is present TVM would compile the source; convc does so itself, see `nvcc`."""
    return bytearray()  # type: ignore[return-value]


def generate(func: Any, symbol: str, gpu: Gpu) -> DeviceCode:
    """CUDA source of a scheduled function whose parameters are the kernel's tensors."""
    target = cuda_target(gpu)
    mod = tvm.IRModule({symbol: func.with_attr("global_symbol", symbol)})
    with target, tvm.transform.PassContext(config={"tirx.use_async_copy": True}):
        lowered = device_passes()(tirx.transform.BindTarget(target)(mod))
        on_device = {v: f for v, f in lowered.functions.items() if _runs_on_device(f)}
        if not on_device:  # no output has elements
            return DeviceCode("", (), 0)
        (host,) = (f for v, f in lowered.functions.items() if v not in on_device)
        module = tvm.get_global_func("target.build.cuda")(finish_device()(tvm.IRModule(on_device)), target)
    launches, scratch = _read_host(host)
    return DeviceCode(with_prelude(without_branches(str(module.inspect_source()))), launches, scratch)


_CONDITIONAL_COPY = re.compile(
    r"^(__forceinline__ __device__ void ptx_cp_async_legacy_pred_(c[ag])_(\d+)_\w+\([^)]*\) \{\n"
    r"(?:  u[^\n]*\n){3})  __asm__.*?^\}",
    re.MULTILINE | re.DOTALL,
)
"""TVM's definition of one: three lines that make addresses, then a scope of PTX with a predicate."""

_SIZED_COPY = r"""\1  asm volatile("cp.async.\2.shared.global [%0], [%1], %2, %3;"
    :: "r"(dst_addr), "l"(src_p), "n"(\3), "r"(predicate ? \3 : 0));
}"""


def without_branches(source: str) -> str:
    """The source with copies that fill up with zeros in place of those that branch.

    Where a window leaves the map TVM has a thread copy or else store zeros. A copy of which no byte is read
    from its source writes the zeros itself (PTX ISA, cp.async, src-size), in order with all others.
    """
    return _CONDITIONAL_COPY.sub(_SIZED_COPY, source)


def with_prelude(source: str) -> str:
    """The source with convc's own device functions before the first kernel."""
    start = source.index('extern "C" __global__')
    native = resources.files("convc.codegen").joinpath("native")
    prelude = native.joinpath("prelude.cuh").read_text()
    used = sorted(set(re.findall(r"convc_wgmma_(\w+)_n(\d+)<", source)))
    if used:
        prelude += native.joinpath("warpgroup.cuh").read_text()
        prelude += "".join(wgmma(dtype, int(columns)) for dtype, columns in used)
    return source[:start] + prelude + source[start:]


def wgmma(dtype: str, columns: int) -> str:
    """The device function that adds the product of 64 rows and so many columns to a warpgroup's sums.

    See `native/warpgroup.cuh`. Its text is made here because each sum is an operand of the instruction.
    """
    k, short, flags = {
        FLOAT32: (8, "tf32", ""), FLOAT16: (16, "f16", ", 0, 0"), BFLOAT16: (16, "bf16", ", 0, 0")
    }[DType.of(dtype)]  # fmt: skip
    sums = columns // 2
    places = ", ".join(f"%{i}" for i in range(sums))
    add = f"setp.ne.b32 p, %{sums + 2}, 0;"
    name = f"wgmma.mma_async.sync.aligned.m64n{columns}k{k}.f32.{short}.{short}"
    instruction = f"{name} {{{places}}}, %{sums}, %{sums + 1}, p, 1, 1{flags};"
    return f"""
template <int CHUNKS, typename T>
__device__ __forceinline__ void convc_wgmma_{dtype}_n{columns}(float *c, const T *a, int a_rows, const T *b,
                                                               int b_rows) {{
  convc_warpgroup_begin();
#pragma unroll
  for (int i = 0; i < CHUNKS; i += 2)
    asm volatile("{{.reg .pred p; {add} {instruction}}}"
                 : {", ".join(f'"+f"(c[{i}])' for i in range(sums))}
                 : "l"(convc_matrix(a, i, a_rows)), "l"(convc_matrix(b, i, b_rows)), "r"(1));
  convc_warpgroup_end();
}}
"""


def _runs_on_device(func: Any) -> bool:
    return "calling_conv" in func.attrs and int(func.attrs["calling_conv"]) == KERNEL_LAUNCH


def _read_host(host: Any) -> tuple[tuple[KernelLaunch, ...], int]:
    """The launches of a host function, and the bytes that its allocations take side by side."""
    places: dict[Any, int | Scratch] = {p: i for i, p in enumerate(host.params)}
    launches: list[KernelLaunch] = []
    used = 0

    def view(node: Any) -> None:
        places[node.buffer] = places[node.data.args[0]]

    def allocate(node: Any) -> None:
        nonlocal used
        places[node.buffer] = Scratch(used)
        used += -(-_nbytes(node.buffer) // ALIGNMENT) * ALIGNMENT

    def launch(node: Any) -> None:
        if node.op.name == "tirx.call_ffi_kernel":
            launches.append(_launch(node, places))

    tvm_ffi.structural_walk(
        host.body, [(tirx.DeclBuffer, view), (tirx.AllocBuffer, allocate), (tvm.ir.Call, launch)]
    )
    return tuple(launches), used


def _nbytes(buffer: Any) -> int:
    dtype = tvm.DataType(str(buffer.dtype))
    elements = 1
    for extent in buffer.shape:
        elements *= int(extent)
    return elements * int(dtype.lanes) * ((int(dtype.bits) + 7) // 8)


def _launch(call: Any, places: dict[Any, int | Scratch]) -> KernelLaunch:
    """`call_ffi_kernel(name, pointers..., extents...)`; the attribute names the extents."""
    names = [str(name) for name in call.attrs.launch_params]
    function, *pointers = call.args[: len(call.args) - len(names)]
    extents = dict(zip(names, map(int, call.args[len(call.args) - len(names) :]), strict=True))

    def geometry(tag: str) -> tuple[int, int, int]:
        x, y, z = (extents.get(f"{tag}.{axis}", 1) for axis in "xyz")
        return x, y, z

    return KernelLaunch(
        str(function.value),
        geometry("blockIdx"),
        geometry("threadIdx"),
        extents.get("tirx.use_dyn_shared_memory", 0),
        tuple(places[pointer.args[0]] for pointer in pointers),
    )

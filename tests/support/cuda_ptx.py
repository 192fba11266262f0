"""Which PTX instructions the CUDA emulator knows: a pattern of the opcode, the C++ function, the operands.

An instruction's operands are written `results:sources`, a letter each: r 32 bits, h 16 bits, l 64 bits,
f float, d double, p predicate, i a constant, s an address in shared memory, g any other address. The
functions are in cuda_emulator/ptx.h; an instruction of several threads goes through `convc::collective`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Instruction:
    """One entry: `function` is a template of the match, so that `\\1` stands for its first group."""

    pattern: re.Pattern[str]
    function: str
    operands: tuple[str, ...]  # any of these

    def call(self, opcode: str, arguments: list[str]) -> str:
        """The C++ call for an opcode that the pattern fits."""
        function = self.pattern.sub(self.function, opcode)
        return f"ptx::{function}({', '.join(arguments)})"


def _row(pattern: str, function: str, *operands: str) -> Instruction:
    return Instruction(re.compile(pattern), function, tuple(o.replace(" ", "") for o in operands))


def _mma(shape: str, types: str, factor: str, total: str, registers: tuple[int, int]) -> Instruction:
    a, b = registers
    sums = {"f32": "f" * 4, "f16": "r" * 2, "s32": "r" * 4}[total]
    return _row(
        rf"mma\.sync\.aligned\.{shape}\.row\.col\.{types}",
        f"mma<ptx::Factor::{factor}, ptx::Sum::{total}, {a}, {b}>",
        f"{sums}:{'r' * a}{'r' * b}{sums}",
    )


def _wgmma(k: int, types: str, factor: str, last: str) -> tuple[Instruction, ...]:
    """The product of a warpgroup for all numbers of columns; `last` are the operands behind the predicate."""
    return tuple(
        _row(
            rf"wgmma\.mma_async\.sync\.aligned\.m64n{n}k{k}\.f32\.{types}",
            f"wgmma<ptx::Factor::{factor}, {n}>",
            f"{'f' * (n // 2)}:llp{last}",
        )
        for n in range(8, 257, 8)
    )


_SPACE = r"(?:\.relaxed|\.volatile|\.weak|\.nc|\.L1::\w+|\.L2::\w+|\.c[agsv]|\.wb|\.wt|\.lu)*"

TABLE = (
    # asynchronous copies
    _row(r"cp\.async\.c[ag]\.shared\.global", "cp_async", ":sgi", ":sgir"),
    _row(r"cp\.async\.commit_group", "cp_async_commit_group", ":"),
    _row(r"cp\.async\.wait_group", "cp_async_wait_group", ":i"),
    _row(r"cp\.async\.wait_all", "cp_async_wait_all", ":"),
    # memory
    _row(rf"ld\.shared{_SPACE}\.[busf](?:16|32|64)", "ld_shared_1", "r:s", "f:s", "h:s", "l:s"),
    _row(rf"ld\.shared{_SPACE}\.v2\.[busf](?:32|64)", "ld_shared_2", "rr:s", "ff:s", "ll:s"),
    _row(rf"ld\.shared{_SPACE}\.v4\.[busf]32", "ld_shared_4", "rrrr:s", "ffff:s"),
    _row(
        rf"st\.shared{_SPACE}(?:\.v[24])?\.[busf](?:16|32|64)",
        "st_shared",
        *(":sr", ":srr", ":srrrr", ":sf", ":sff", ":sffff", ":sh", ":sl", ":sll"),
    ),
    _row(rf"ld(?:\.global)?{_SPACE}\.[busf](?:16|32|64)", "ld_global_1", "r:g", "f:g", "h:g", "l:g"),
    _row(rf"ld(?:\.global)?{_SPACE}\.v2\.[busf](?:32|64)", "ld_global_2", "rr:g", "ff:g", "ll:g"),
    _row(rf"ld(?:\.global)?{_SPACE}\.v4\.[busf]32", "ld_global_4", "rrrr:g", "ffff:g"),
    _row(
        rf"st(?:\.global)?{_SPACE}(?:\.v[24])?\.[busf](?:16|32|64)",
        "st_global",
        *(":gr", ":grr", ":grrrr", ":gf", ":gff", ":gffff", ":gh", ":gl", ":gll"),
    ),
    # matrices
    _row(r"ldmatrix\.sync\.aligned\.m8n8\.x[124]\.shared\.b16", "ldmatrix<false>", "r:s", "rr:s", "rrrr:s"),
    _row(
        r"ldmatrix\.sync\.aligned\.m8n8\.x[124]\.trans\.shared\.b16",
        "ldmatrix<true>",
        "r:s",
        "rr:s",
        "rrrr:s",
    ),
    _row(r"stmatrix\.sync\.aligned\.m8n8\.x[124]\.shared\.b16", "stmatrix<false>", ":sr", ":srr", ":srrrr"),
    _row(
        r"stmatrix\.sync\.aligned\.m8n8\.x[124]\.trans\.shared\.b16",
        "stmatrix<true>",
        ":sr",
        ":srr",
        ":srrrr",
    ),
    _mma("m16n8k16", r"f32\.f16\.f16\.f32", "f16", "f32", (4, 2)),
    _mma("m16n8k8", r"f32\.f16\.f16\.f32", "f16", "f32", (2, 1)),
    _mma("m16n8k16", r"f16\.f16\.f16\.f16", "f16", "f16", (4, 2)),
    _mma("m16n8k8", r"f16\.f16\.f16\.f16", "f16", "f16", (2, 1)),
    _mma("m16n8k16", r"f32\.bf16\.bf16\.f32", "bf16", "f32", (4, 2)),
    _mma("m16n8k8", r"f32\.bf16\.bf16\.f32", "bf16", "f32", (2, 1)),
    _mma("m16n8k8", r"f32\.tf32\.tf32\.f32", "tf32", "f32", (4, 2)),
    _mma("m16n8k4", r"f32\.tf32\.tf32\.f32", "tf32", "f32", (2, 1)),
    _mma("m16n8k32", r"s32\.s8\.s8\.s32", "s8", "s32", (4, 2)),
    _mma("m16n8k16", r"s32\.s8\.s8\.s32", "s8", "s32", (2, 1)),
    _mma("m16n8k32", r"s32\.u8\.u8\.s32", "u8", "s32", (4, 2)),
    *_wgmma(16, r"f16\.f16", "f16", "iiii"),
    *_wgmma(16, r"bf16\.bf16", "bf16", "iiii"),
    *_wgmma(8, r"tf32\.tf32", "tf32", "ii"),
    _row(r"wgmma\.(?:fence|commit_group)\.sync\.aligned", "nothing", ":"),
    _row(r"wgmma\.wait_group\.sync\.aligned", "nothing", ":i"),
    # conversions and arithmetic
    _row(r"cvt\.rna\.tf32\.f32", "cvt_rna_tf32", "r:f"),
    _row(r"cvt\.rn\.f16x2\.f32", "cvt_f16x2", "r:ff"),
    _row(r"cvt\.rn\.bf16x2\.f32", "cvt_bf16x2", "r:ff"),
    _row(r"cvt\.rn\.f16\.f32", "cvt_f16", "h:f"),
    _row(r"cvt\.rn\.bf16\.f32", "cvt_bf16", "h:f"),
    _row(r"cvt\.f32\.f16", "cvt_f32_f16", "f:h"),
    _row(r"cvt\.f32\.bf16", "cvt_f32_bf16", "f:h"),
    _row(r"cvta\.to\.shared\.u64", "cvta_to_shared", "l:l"),
    _row(r"cvta\.to\.global\.u64", "move", "l:l"),
    _row(r"cvt\.u32\.u64", "move", "r:l"),
    _row(r"cvt\.u64\.u32", "move", "l:r"),
    _row(r"mov\.[bus](?:16|32|64)", "move", "r:r", "h:h", "l:l"),
    _row(r"mov\.(?:f32|b32)", "move", "f:f"),
    _row(r"ex2\.approx(?:\.ftz)?\.f32", "ex2", "f:f"),
    _row(r"lg2\.approx(?:\.ftz)?\.f32", "lg2", "f:f"),
    _row(r"rcp\.approx(?:\.ftz)?\.f32", "rcp", "f:f"),
    _row(r"rsqrt\.approx(?:\.ftz)?\.f32", "rsqrt", "f:f"),
    _row(r"tanh\.approx\.f32", "tanh", "f:f"),
    _row(r"fma\.rn(?:\.ftz)?\.f32", "fma_f32", "f:fff"),
    _row(r"fma\.rn(?:\.ftz)?\.f16x2", "hfma2", "r:rrr"),
    _row(r"(add|sub)(?:\.rn)?\.(?:[us](?:32|64)|f32)", r"\1", "r:rr", "l:ll", "f:ff"),
    _row(r"mul(?:\.rn|\.lo)?\.(?:[us]32|f32)", "mul", "r:rr", "f:ff"),
    _row(r"setp\.(eq|ne)\.[bsu]32", r"set_\1", "p:rr"),
    _row(r"selp\.[bsuf]32", "select", "r:rrp", "f:ffp"),
    # synchronisation
    _row(r"(?:bar|barrier\.cta)\.sync(?:\.aligned)?|barrier\.sync(?:\.aligned)?", "bar_sync", ":r", ":rr"),
    _row(r"bar\.warp\.sync", "bar_warp_sync", ":r"),
    _row(r"griddepcontrol\.(?:wait|launch_dependents)", "nothing", ":"),
    _row(r"fence\.(?:proxy\.async|acq_rel\.\w+|sc\.\w+|mbarrier_init\.release\.cluster)", "nothing", ":"),
    _row(r"fence\.proxy\.async\.(?:shared|global)", "nothing", ":"),
    _row(r"membar\.\w+", "nothing", ":"),
    _row(r"prefetch\.global\.L[12]", "nothing_at", ":g"),
    _row(r"setmaxnreg\.(?:inc|dec)\.sync\.aligned\.u32", "nothing", ":i"),
)

_OMITTED = re.compile(r"::cta|\.L2::\d+B")
SPECIAL = {
    "laneid": "(convc::current->linear % 32)",
    "warpid": "(convc::current->linear / 32)",
    **{f"tid.{axis}": f"threadIdx.{axis}" for axis in "xyz"},
    **{f"ctaid.{axis}": f"blockIdx.{axis}" for axis in "xyz"},
    **{f"ntid.{axis}": f"blockDim.{axis}" for axis in "xyz"},
    **{f"nctaid.{axis}": f"gridDim.{axis}" for axis in "xyz"},
}
"""Registers that the hardware fills, 32 bits each."""

_ACCEPTED = {"r": "ri", "i": "i", "l": "li", "g": "l", "s": "r", "f": "f", "d": "d", "h": "h", "p": "p"}


def call_of(opcode: str, arguments: list[str], kinds: str) -> str:
    """The C++ call of an instruction whose operands have these kinds; ValueError for what is unknown."""
    plain = _OMITTED.sub("", opcode)
    for row in TABLE:
        if row.pattern.fullmatch(plain) is None:
            continue
        for operands in row.operands:
            wanted = operands.replace(":", "")
            if len(wanted) == len(kinds) and all(
                k in _ACCEPTED[w] for k, w in zip(kinds, wanted, strict=True)
            ):
                return row.call(plain, list(map(_typed, arguments, kinds, wanted)))
        raise ValueError(
            f"PTX instruction '{opcode}' has operands of kinds '{kinds}'; known are {', '.join(row.operands)}"
        )
    raise ValueError(f"PTX instruction '{opcode}' is not known to the emulator; add it to cuda_ptx.TABLE")


def _typed(argument: str, kind: str, wanted: str) -> str:
    """A constant has the type of the register in whose place it is."""
    types = {"r": "uint32_t", "l": "uint64_t"}
    return f"{types[wanted]}({argument})" if kind == "i" and wanted in types else argument

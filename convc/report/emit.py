"""The stages of a compilation as text, for `--emit`."""

from __future__ import annotations

from collections.abc import Callable

from convc.codegen import nvcc
from convc.codegen.device_build import device_code
from convc.codegen.kernel import scheduled
from convc.codegen.link import BoundKernel, distinct_kernels
from convc.compilation import Compilation
from convc.errors import OptionError
from convc.ir.clone import clone
from convc.passes.pipeline import run_pipeline
from convc.plan.program import Run
from convc.target import Target

DEVICE_STAGES = ("cuda", "ptx", "sass")


def emit_text(compilation: Compilation, stage: str) -> str:
    """One stage: `graph` (optimised), `lowered` (layouts, lowerings, memory), `tir`, `llvm` or `asm`.

    Of a GPU's kernels `cuda`, `ptx` or `sass` instead of the last two. Raises OptionError for others.
    """
    if stage == "graph":
        graph = clone(compilation.source)
        run_pipeline(graph)
        return str(graph)
    if stage == "lowered":
        return _lowered(compilation)
    _, kernels = distinct_kernels(compilation.program, compilation.target)
    text = _text_maker(stage, compilation.target)
    comment = "//" if stage in DEVICE_STAGES else ";" if stage == "llvm" else "#"
    return "\n\n".join(
        f"{comment} {symbol}: {bound.kernel.workload}\n{comment} {bound.kernel.config}\n{text(bound)}"
        for symbol, bound in kernels.items()
    )


def _text_maker(stage: str, target: Target) -> Callable[[BoundKernel], str]:
    """From a kernel to its text at a stage. Raises OptionError for one that the target does not have."""
    if stage == "tir":
        return lambda bound: str(scheduled(bound.kernel, bound.lowering, bound.schedule).script())
    if (stage in DEVICE_STAGES) != (target.gpu is not None):
        stages = ("llvm", "asm") if target.gpu is None else DEVICE_STAGES
        raise OptionError(
            f"--emit {stage}: code for '{target.name}' does not take this form.",
            hint=f"It has {', '.join(stages)}.",
        )
    if target.gpu is None:
        return lambda bound: bound.inspect(stage)
    arch = target.gpu.code
    forms: dict[str, Callable[[str], str]] = {
        "cuda": str,
        "ptx": lambda source: nvcc.compile_ptx(source, arch),
        "sass": lambda source: nvcc.disassemble(nvcc.compile_cubin(source, arch).image),
    }
    return lambda bound: forms[stage](device_code(bound).source)


def _lowered(compilation: Compilation) -> str:
    """The graph after layout assignment, then each node's lowering and the program's steps."""
    program = compilation.program
    size = f"workspace {program.workspace_bytes} bytes, {program.workspace_bound} of them in use at once"
    lines = [str(compilation.graph), "", size]
    for index, step in enumerate(program.steps):
        if isinstance(step, Run):
            places = ", ".join(
                f"{a.location.space}[{a.location.index}]+{a.location.offset}" for a in step.arguments
            )
            lines.append(f"{index:4d}  {step.choice.lowering.name:10s} {step.node.name}  ({places})")
        else:
            lines.append(f"{index:4d}  {'clear':10s} {step.node.name}  (workspace+{step.location.offset})")
    return "\n".join(lines)

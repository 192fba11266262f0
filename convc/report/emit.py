"""The stages of a compilation as text, for `--emit`."""

from __future__ import annotations

from convc.codegen.kernel import scheduled
from convc.codegen.link import distinct_kernels
from convc.compiler import Compilation
from convc.ir.clone import clone
from convc.passes.pipeline import run_pipeline
from convc.program import Run


def emit_text(compilation: Compilation, stage: str) -> str:
    """One stage: `graph` (optimised), `lowered` (layouts, lowerings, memory), `tir`, `llvm` or `asm`."""
    if stage == "graph":
        graph = clone(compilation.source)
        run_pipeline(graph)
        return str(graph)
    if stage == "lowered":
        return _lowered(compilation)
    _, kernels = distinct_kernels(compilation.program, compilation.target)
    parts = []
    for symbol, bound in kernels.items():
        if stage == "tir":
            text = scheduled(bound.kernel, bound.lowering, bound.schedule).script()
        else:
            text = bound.inspect(stage)
        comment = {"tir": "#", "llvm": ";", "asm": "#"}[stage]
        parts.append(f"{comment} {symbol}: {bound.kernel.workload}\n{comment} {bound.kernel.config}\n{text}")
    return "\n\n".join(parts)


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

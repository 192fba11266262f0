"""A network on its way to machine code: imported, optimised, its lowerings chosen and its memory planned."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convc.codegen.calibrate import calibrated
from convc.codegen.machine import resolve
from convc.dtype import BFLOAT16, FLOAT32
from convc.errors import OptionError, UnsupportedError
from convc.files import explained
from convc.frontends.models import graph_of
from convc.frontends.onnx import read
from convc.ir import Attrs, Graph, Node, opdef
from convc.ir.clone import clone
from convc.options import Options, keeps_denormals
from convc.passes.base import Pass
from convc.passes.convert_precision import ConvertPrecision
from convc.passes.fuse_max_pool import FuseMaxPool
from convc.passes.fuse_separable import FuseSeparable
from convc.passes.merge_siblings import MergeSiblings
from convc.passes.pipeline import PIPELINE, run_pipeline
from convc.passes.remove_identities import RemoveIdentities
from convc.passes.sub_pixel import AlwaysSubPixel
from convc.plan import memory
from convc.plan.layout import LayoutAssignment
from convc.plan.program import Program
from convc.plan.select import Choice, Selector
from convc.progress import Progress
from convc.target import Target
from convc.types import TensorType
from convc.workload import Workload


@dataclass
class Compilation:
    """A network on its way: the imported graph, the optimised one, and what was decided about it."""

    source: Graph
    options: Options
    target: Target
    graph: Graph
    choices: dict[Node, Choice]
    program: Program
    model_sha256: str = ""

    @property
    def layers(self) -> list[Node]:
        """What a user takes for layers: all nodes but copies into other layouts."""
        return [node for node in self.graph.nodes if not opdef(node.op).copies_layout]


@explained("Cannot compile")
def plan(model: Any, options: Options, progress: Progress) -> Compilation:
    """Everything short of machine code: import, optimise, choose lowerings, plan memory."""
    model = graph_of(model, options.input_shapes)
    if isinstance(model, Graph) and options.constants:
        raise OptionError(
            f"constants= build inputs of an ONNX model in; '{model.name}' is a Graph or Network.",
            hint="Build it with constants in place of these inputs, or read the ONNX file with them.",
        )
    target = calibrated(resolve(options.target, options.threads, options.precision), progress)
    with progress.stage("import"):
        source = (
            model
            if isinstance(model, Graph)
            else read(
                model,
                input_shapes=options.input_shapes,
                constants=options.constants,
                notice=progress.notice,
            )
        )
    _refuse_bfloat16(source)
    digest = "" if isinstance(model, Graph) or not _is_path(model) else _sha256(Path(model))
    with progress.stage("optimise"):
        graph = clone(source)
        run_pipeline(graph, (*pipeline(options), *fusions(options, target)))
    return lower(source, graph, options, target, progress, digest)


def pipeline(options: Options) -> tuple[Pass, ...]:
    """The passes of the pipeline that keep the accuracy asked for."""
    return tuple(step for step in PIPELINE if step.by_element or options.error_measure != "element")


def fusions(options: Options, target: Target) -> tuple[Pass, ...]:
    """The passes after the pipeline that join layers where the target's prices say so."""
    if target.gpu is not None:
        half = target.gpu.storage
        converted = () if half == FLOAT32 else (ConvertPrecision(half), RemoveIdentities())
        return AlwaysSubPixel(), MergeSiblings(), *converted
    keep = frozenset(options.algorithms)
    selector = Selector(target, options.max_error, measure=options.error_measure)
    return FuseSeparable(target, keep), FuseMaxPool(selector.price, keep)


def lower(
    source: Graph, graph: Graph, options: Options, target: Target, progress: Progress, digest: str = ""
) -> Compilation:
    """Choose a lowering for each layer of an optimised graph (which is changed) and plan its memory."""
    with progress.stage("select"):
        selector = Selector(
            target,
            options.max_error,
            options.algorithms,
            options.all_errors,
            options.records,
            options.error_measure,
        )
        choices = LayoutAssignment(graph, selector).run()
    with progress.stage("plan memory"):

        def copy(kind: TensorType) -> Choice:
            return selector.choose_workload(Workload("relayout", Attrs(), (kind,), (kind,), (False,), 1))

        program = memory.plan(graph, choices, target, copy)
        if not keeps_denormals(options, target):
            program.drop_denormals()
    return Compilation(source, options, target, graph, choices, program, digest)


def _refuse_bfloat16(graph: Graph) -> None:
    """Raise UnsupportedError where a model itself has bfloat16: NumPy has no such arrays."""
    for node in graph.nodes:
        for value in (*node.inputs, *node.outputs):
            if value is not None and value.type.dtype == BFLOAT16:
                raise UnsupportedError(
                    f"'{node.name}' ({node.op}) works on bfloat16, which models may not have.",
                    hint="Leave the model in float32: `--precision bfloat16` has GPUs compute in it.",
                )


def _is_path(model: Any) -> bool:
    return isinstance(model, str | os.PathLike)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

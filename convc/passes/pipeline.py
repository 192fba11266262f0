"""The pipeline: the passes that every graph goes through before layouts and algorithms are chosen."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from convc.errors import GraphError
from convc.ir import Graph, print_graph, verify
from convc.passes.base import Changes, Pass
from convc.passes.compose_linear import ComposeLinear
from convc.passes.convert_precision import ConvertPrecision
from convc.passes.fold_affine import FoldAffine
from convc.passes.fold_constants import FoldConstants
from convc.passes.fold_padding import FoldPadding
from convc.passes.fully_connected import FullyConnected
from convc.passes.fuse_epilogues import FuseEpilogues
from convc.passes.hoist_activations import HoistActivations
from convc.passes.hoist_affine import HoistAffine
from convc.passes.lower_batch_norm import LowerBatchNorm
from convc.passes.merge_common import MergeCommon
from convc.passes.merge_siblings import MergeSiblings
from convc.passes.normalise_linear import NormaliseLinear
from convc.passes.phases_as_channels import PhasesAsChannels
from convc.passes.pool_first import PoolFirst
from convc.passes.pull_slices import PullSlices
from convc.passes.recognise_activations import RecogniseActivations
from convc.passes.remove_dead_code import RemoveDeadCode
from convc.passes.remove_identities import RemoveIdentities
from convc.passes.separate_kernels import SeparateKernels
from convc.passes.separate_outputs import SeparateOutputs
from convc.passes.sub_pixel import SubPixel

PIPELINE: tuple[Pass, ...] = (
    RemoveDeadCode(),
    ConvertPrecision("float32", source="float16"),
    FoldConstants(),
    RemoveIdentities(),
    MergeCommon(),
    RecogniseActivations(),
    NormaliseLinear(),
    FoldPadding(),
    FoldAffine(),  # after the padding: a map before a padded convolution is refused where it has a shift
    HoistAffine(),
    PullSlices(),
    ComposeLinear(),  # batch norms are part of the weights by now
    SeparateKernels(),
    PoolFirst(),
    LowerBatchNorm(),
    HoistActivations(),
    FuseEpilogues(),
    MergeSiblings(),  # siblings have their activations by now, which must be equal
    SubPixel(),
    PhasesAsChannels(),  # what the phases of whole blocks of channels have left
    FullyConnected(),
    RemoveIdentities(),  # reshapes between fully connected layers
    RemoveDeadCode(),
    SeparateOutputs(),
)


@dataclass(frozen=True)
class PassRun:
    """One pass over one graph: what it changed, and the seconds that it took."""

    name: str
    changes: Changes
    seconds: float


Observer = Callable[[PassRun, Graph], None]
"""Called after each pass with its record and the graph as it then stands."""


def run_pipeline(
    graph: Graph,
    passes: Sequence[Pass] = PIPELINE,
    observer: Observer | None = None,
) -> list[PassRun]:
    """Run `passes` over `graph`, in place, and return their records.

    The graph is verified before and after, and after each pass when CONVC_DEBUG is 1 or more; from 2 on, each
    change is printed to standard error. CONVC_DUMP names a folder for the graph's text after each pass, in
    files numbered in order. Raises GraphError, which names the pass, when a pass breaks an invariant.
    """
    level = debug_level()
    verify(graph)
    observers = [o for o in (observer, _printer(level), _dumper(graph)) if o is not None]
    runs = []
    for step in passes:
        start = time.perf_counter()
        run = PassRun(step.name, step.run(graph), time.perf_counter() - start)
        runs.append(run)
        for observe in observers:
            observe(run, graph)
        if level >= 1 or step is passes[-1]:
            try:
                verify(graph)
            except GraphError as error:
                raise GraphError(f"After the pass '{step.name}': {error}") from error
    return runs


def debug_level() -> int:
    """The value of CONVC_DEBUG: 0 where it is unset or not a number."""
    value = os.environ.get("CONVC_DEBUG", "")
    return int(value) if value.isdecimal() else 0


def _printer(level: int) -> Observer | None:
    def show(run: PassRun, graph: Graph) -> None:
        print(f"== {run.name}: {1e3 * run.seconds:.1f} ms, {len(run.changes.made)} changes", file=sys.stderr)
        for change in run.changes:
            print(f"   {change}", file=sys.stderr)

    return show if level >= 2 else None


def _dumper(graph: Graph) -> Observer | None:
    folder = os.environ.get("CONVC_DUMP", "")
    if not folder:
        return None
    Path(folder).mkdir(parents=True, exist_ok=True)
    number = 0

    def dump(name: str, graph: Graph) -> None:
        nonlocal number
        (Path(folder) / f"{number:02}-{name}.txt").write_text(print_graph(graph), encoding="utf-8")
        number += 1

    dump("imported", graph)
    return lambda run, graph: dump(run.name, graph)

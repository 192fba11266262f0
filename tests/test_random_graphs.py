"""Random legal graphs, compiled and compared with onnxruntime.

`make fuzz` runs 1,000, and CONVC_RANDOM_GRAPHS any number. A graph is given by its seed, its test by
`pytest tests/test_random_graphs.py::test_equals_onnxruntime[SEED]`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from kernels import TARGETS
from random_drawing import APPROXIMATE
from random_graphs import RandomGraph, draw

from convc.compilation import Compilation, fusions, lower
from convc.compiler import Options, build
from convc.errors import OptionError
from convc.frontends.onnx import read
from convc.ir.clone import clone
from convc.passes.pipeline import PIPELINE, run_pipeline
from convc.progress import Progress
from convc.runtime.module import Module

COUNT = int(os.environ.get("CONVC_RANDOM_GRAPHS", "24"))


def planned(graph: RandomGraph, options: Options) -> Compilation:
    """For vectors of 4, 8 or 16 lanes, which this machine need not have, and one thread or two."""
    machine = TARGETS[graph.seed % 3].with_threads(1 + graph.seed % 2)
    source = read(graph.model)
    optimised = clone(source)
    run_pipeline(optimised, (*PIPELINE, *fusions(options, machine)))
    return lower(source, optimised, options, machine, Progress())


def compiled(graph: RandomGraph, folder: Path) -> Module:
    """A module in which half of the layers that could be computed in several ways are so in any of them.

    On tensors this small the cheapest way is nearly always the same.
    """
    rng = np.random.default_rng(graph.seed)
    first = planned(graph, Options(all_errors=True))
    wishes = {}
    for node, choice in first.choices.items():
        ways = [c.lowering for c in choice.candidates if not c.rejected and (c.error or 0) <= APPROXIMATE]
        ways = [way for way in ways if way != "generic"]  # what small layers are anyway
        if ways and rng.random() < 0.5:
            wishes[node.name] = str(rng.choice(ways))
    try:
        compilation = planned(graph, Options(algorithms=wishes))
    except OptionError:  # what a layer shall be computed by keeps it from being joined with another
        compilation = first
    return build(compilation, folder / f"{graph.seed}.so", Progress(), verify=False)


@pytest.mark.parametrize("seed", range(COUNT))
def test_equals_onnxruntime(seed, tmp_path):
    graph = draw(seed)
    names = [o.name for o in graph.model.graph.output]
    assert not graph.wrong(compiled(graph, tmp_path).run(names, graph.feeds)), str(graph)


def test_a_wrong_result_is_noticed():
    """Each element counts; by a hundredth of the largest is far off."""
    graph = draw(0)
    assert not graph.wrong(graph.expected)
    for i, expected in enumerate(graph.expected):
        assert graph.tolerances[i] <= 0.01 * np.abs(expected).max()
        off = expected.copy()
        off.flat[-1] += 0.01 * np.abs(expected).max()
        assert "allowed" in graph.wrong([*graph.expected[:i], off, *graph.expected[i + 1 :]])
    assert "not float32" in graph.wrong([graph.expected[0].astype(np.float64), *graph.expected[1:]])


def test_a_seed_is_a_graph():
    first, again, other = draw(3), draw(3), draw(4)
    assert first.model == again.model != other.model
    assert all((a == b).all() for a, b in zip(first.expected, again.expected, strict=True))

"""Every case of the case table through the whole compiler, against float64.

Compiling and linking a module costs more than running a case, so many cases share a graph; a failure lists
the cases that are off.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES, CONV, Case
from layer_cases import CONV_POOL, CONV_TRANSPOSE, LINEAR, NORM, POOL, RESIZE, SEPARABLE
from merged import feeds, merge
from tensor_cases import BINARY, REDUCE, SHAPE, UNARY

import convc
from convc.codegen import kernel
from convc.codegen.pipeline import tvm
from convc.compilation import plan
from convc.compiler import Options, build
from convc.evaluate import evaluate
from convc.ir import Attrs, Graph, opdef
from convc.lowering.base import Lowering
from convc.lowering.registry import LOWERINGS
from convc.ops.conv import ConvAttrs
from convc.ops.unary import ClipAttrs
from convc.plan.select import Selector
from convc.progress import Progress
from convc.runtime.manifest import LayerPlan
from convc.target import Target
from convc.types import TensorType
from convc.verify import compare
from convc.workload import Workload

EXACT = {"view", *(lowering.name for lowering in LOWERINGS if lowering.exact)}
EPS = float(np.finfo(np.float32).eps)
FAMILIES = {
    "conv": CONV, "conv_max_pool": CONV_POOL, "conv_transpose": CONV_TRANSPOSE, "separable": SEPARABLE,
    "pool": POOL, "norm_linear": NORM + LINEAR,
    "unary": UNARY, "binary": BINARY, "reduce": REDUCE, "shape": SHAPE, "resize": RESIZE,
}  # fmt: skip


def rounding(case: Case) -> float:
    """Error of float32 arithmetic, relative to the largest output.

    Rounding n terms gives an error that grows as sqrt(n) times the sum of their magnitudes (Higham, Accuracy
    and Stability, section 4.6), and that sum is some sqrt(n) times the sum of terms of random sign. A dozen
    roundings more for polynomials, bias and epilogue. What float16 stores has its own eps.
    """
    outputs = opdef(case.op).infer(case.attrs, case.inputs)
    cost = opdef(case.op).cost(case.attrs, case.inputs, outputs)
    terms = max(cost.multiply_adds, cost.other) / max(outputs[0].size, 1)
    coarse = any(t is not None and t.dtype == "float16" for t in (*case.inputs, *outputs))
    return float(np.finfo(np.float16).eps) if coarse else EPS * (16 + terms)


def errors(
    graphs: dict[str, Graph],
    arrays: dict[str, dict[str, np.ndarray]],
    target: str = "host",
    algorithms: dict[str, str] | None = None,
) -> tuple[tuple[LayerPlan, ...], dict[str, float]]:
    """Compile all graphs as one; the plan with errors of all lowerings, the largest error of each graph."""
    whole, inputs = merge(graphs), feeds(arrays)
    options = Options(target, 2, algorithms=algorithms or {}, max_error=1.0, all_errors=True)
    compilation = plan(whole, options, Progress())
    with tempfile.TemporaryDirectory() as folder:
        module = build(compilation, Path(folder) / "module.so", Progress(), verify=False)
        found = module.run(None, inputs)
    for array, info in zip(found, module.outputs, strict=True):
        assert (array.dtype, array.shape) == (info.dtype, info.shape)
    worst = dict.fromkeys(graphs, 0.0)
    for name, error in zip(whole.output_names, compare(found, evaluate(whole, inputs)), strict=True):
        key = name.split("/")[0]
        worst[key] = max(worst[key], error)
    return module.plan, worst


def assert_cases(
    cases: Sequence[Case], graph_of: Callable[[Case], Graph], target: str = "host"
) -> tuple[LayerPlan, ...]:
    """Every case is as near to float64 as its lowering promises."""
    plans, found = errors({c.id: graph_of(c) for c in cases}, {c.id: c.feeds() for c in cases}, target)
    limits = {c.id: rounding(c) for c in cases}
    for layer in plans:
        key = layer.name.split("/")[0]
        limits[key] = max(limits[key], promised(layer))
    assert not {key: error for key, error in found.items() if not error <= limits[key]}
    return plans


def promised(layer: LayerPlan) -> float:
    """The error that an inexact algorithm predicts for itself; 0 for one that only rounds."""
    if layer.chosen in EXACT:
        return 0.0
    return next(c.error or 0.0 for c in layer.candidates if c.lowering == layer.chosen)


@pytest.mark.parametrize("family", FAMILIES)
def test_case_on_this_machine(family: str) -> None:
    assert_cases(FAMILIES[family], Case.graph)


def test_the_shortest_vectors() -> None:
    """A few cases of every family, and some rows of the table."""
    layers = [*CONV[::2], *CONV_POOL[::2], *CONV_TRANSPOSE[:3], *POOL[::6], *NORM[::3], *LINEAR[:3]]
    assert_cases([*layers, *CASES[100::12]], Case.graph, "x86-64")


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests of this file share, the runtime's own code in it."""
    return tmp_path_factory.mktemp("unoptimised")


@pytest.fixture
def unoptimised(monkeypatch: pytest.MonkeyPatch, apart: Path) -> None:
    """LLVM translates kernels as they are, in half the time; they are kept apart from those of users.

    For tests of layouts and of choices. What LLVM's optimisation makes of each operator, others test.
    """
    target = kernel.llvm_target

    def quick(machine: Target, *, sums: bool = True) -> Any:
        return tvm.target.Target({**target(machine, sums=sums).export(), "opt-level": 0})

    monkeypatch.setattr(kernel, "llvm_target", quick)
    monkeypatch.setenv("CONVC_CACHE", str(apart))


def _blockable(kind: TensorType | None) -> bool:
    return kind is not None and kind.dtype == "float32" and kind.rank >= 3 and kind.size > 0


def between_blocks(case: Case) -> Graph:
    """The case between layers on channel blocks: bounds that no value reaches before it, a relu after it."""
    graph = case.graph()
    whole = Graph(case.id)
    twin = {}
    for value in graph.inputs:
        made = whole.add_input(value.name, value.type)
        if _blockable(value.type):
            made = whole.add("clip", [made], ClipAttrs(-1e9, 1e9)).output
        twin[value] = made
    twin.update({v: whole.add_constant(v.name, a) for v, a in graph.constants.items()})
    (node,) = graph.nodes
    made = whole.add(node.op, [None if v is None else twin[v] for v in node.inputs], node.attrs, name="case")
    whole.set_outputs(
        [whole.add("relu", [v], Attrs()).output if _blockable(v.type) else v for v in made.outputs]
    )
    return whole


BLOCKED = [
    case for case in CASES if any(_blockable(t) for i, t in enumerate(case.inputs) if i not in case.constants)
]


@pytest.mark.parametrize("part", range(3))
def test_case_between_blocked_layers(part: int, unoptimised: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few channels are cheaper plain: here that costs a second more, so that blocks are chosen."""
    seconds = Selector._seconds

    def dearer(self: Selector, lowering: Lowering, w: Workload) -> float:
        blocked = any(t.layout.block > 1 for t in (*w.inputs, *w.outputs) if t is not None)
        return seconds(self, lowering, w) + (0.0 if blocked else 1.0)

    monkeypatch.setattr(Selector, "_seconds", dearer)
    plans = assert_cases(BLOCKED[part::3], between_blocks)
    assert (
        sum(p.name.endswith("/case") and "{c" in p.workload.split(" ")[0] for p in plans) > len(BLOCKED) // 12
    )


def test_each_lowering_of_each_convolution(unoptimised: None) -> None:
    """Where an algorithm applies it computes the layer, with the error that it promises."""
    todo = []
    for case in CONV:
        whole = plan(case.graph(), Options(max_error=1.0, all_errors=True), Progress())
        layers = [node for node in whole.graph.nodes if node.op == "conv"]
        if not layers:  # one that makes a single pixel of each image is a matrix product by now
            assert "gemm" in {node.op for node in whole.graph.nodes}, case.id
            continue
        (layer,) = layers
        names = [c.lowering for c in whole.choices[layer].candidates if c.rejected is None]
        todo += [(f"{case.id}@{name}", case, name) for name in names]
    assert {name for _, _, name in todo} == {low.name for low in LOWERINGS if "conv" in low.ops}
    algorithms = {f"{key}/conv": name for key, _, name in todo}
    plans, found = errors(
        {key: case.graph() for key, case, _ in todo},
        {key: case.feeds() for key, case, _ in todo},
        algorithms=algorithms,
    )
    chosen = {p.name: p for p in plans}
    assert {name: chosen[name].chosen for name in algorithms} == algorithms
    for key, case, _ in todo:
        assert found[key] <= max(rounding(case), promised(chosen[f"{key}/conv"])), key


def _conv(dtype: str) -> Graph:
    graph = Graph("typed")
    x = graph.add_input("x", TensorType((1, 3, 6, 6), dtype))
    weights = graph.add_constant("w", np.arange(54).reshape(2, 3, 3, 3).astype(dtype))
    graph.set_outputs(
        graph.add("conv", [x, weights], ConvAttrs((1, 1), (1, 1), ((1, 1), (1, 1))), name="typed").outputs
    )
    return graph


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_dtypes_are_computed_too(dtype: str) -> None:
    """No lowering may crash or be silently wrong on a type that it was not made for."""
    graph = _conv(dtype)
    module = convc.compile(graph, verify=False)
    x = np.random.default_rng(0).integers(-3, 4, (1, 3, 6, 6)).astype(dtype)
    np.testing.assert_allclose(module(x), evaluate(graph, {"x": x})[0], rtol=2e-3)

"""The ONNX backend test suite through `convc.backend`: node tests by family, and the nine light networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from merged import feeds, merge
from onnx import numpy_helper
from onnx_suite import disagreement, node_tests

import convc.backend
from convc.errors import ConvcError
from convc.evaluate import evaluate
from convc.frontends.onnx import read
from convc.frontends.onnx.backend import GraphBackend, Runner
from convc.ir import Graph
from convc.types import Array

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"

FAMILIES = {
    "convolution": "Conv ConvTranspose",
    "pooling": "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool",
    "activation": "Relu LeakyRelu PRelu Elu Celu Selu Sigmoid Tanh HardSigmoid HardSwish Softplus Softsign "
    "ThresholdedRelu Gelu Mish Swish Shrink Clip Softmax LogSoftmax",
    "arithmetic": "Add Sub Mul Div Max Min Pow Sum Mean Neg Abs Exp Log Sqrt Reciprocal",
    "shape": "Reshape Flatten Transpose Concat Split Slice Squeeze Unsqueeze Expand Pad Tile DepthToSpace "
    "SpaceToDepth Identity Resize Upsample Shape",
}

REFUSED = {
    "test_maxpool_with_argmax_2d_precomputed_pads": "Indices",
    "test_maxpool_with_argmax_2d_precomputed_strides": "Indices",
    "test_celu_bfloat16": "BFLOAT16",
    "test_identity_sequence": "sequence_type",
    "test_identity_opt": "optional_type",
    "test_resize_tf_crop_and_resize": "tf_crop_and_resize",
    "test_resize_tf_crop_and_resize_axes_2_3": "tf_crop_and_resize",
    "test_resize_tf_crop_and_resize_axes_3_2": "tf_crop_and_resize",
    "test_resize_tf_crop_and_resize_extrapolation_value": "tf_crop_and_resize",
}
"""Tests of what convc has no code for, with a word that the refusal must contain."""

OTHERWISE = {
    "test_resize_downsample_scales_cubic_align_corners",
    "test_resize_downsample_scales_linear_align_corners",
}
"""The suite aligns corners of 0.6 * 4 = 2.4 rows; onnxruntime and convc align those of the 2 there are."""


def names_of(family: str) -> list[str]:
    """The tests of models with one node, of an operator of the family."""
    ops = set(FAMILIES[family].split())
    return [
        name
        for name, test in node_tests().items()
        if len(test.model.graph.node) == 1 and test.model.graph.node[0].op_type in ops
    ]


class ReferenceBackend(GraphBackend):
    """Runs the float64 references: what the importer alone is worth."""

    @staticmethod
    def engine(graph: Graph) -> Runner:
        """Evaluate a graph, and round the results to their dtypes."""
        return lambda inputs: [
            array.astype(value.type.dtype)
            for array, value in zip(evaluate(graph, inputs), graph.outputs, strict=True)
        ]


def run_suite_case(name: str, backend: type[GraphBackend]) -> None:
    """Run one node test and compare, with the suite's own tolerances."""
    test = node_tests()[name]
    if name in REFUSED:
        with pytest.raises(ConvcError, match=REFUSED[name]):
            backend.prepare(test.model).run(test.data[0][0])
        return
    prepared = backend.prepare(test.model)
    for inputs, expected in test.data:
        assert disagreement(test, prepared.run(inputs), expected) == ""


@pytest.mark.parametrize("family", FAMILIES)
def test_imported_models_evaluate_as_the_suite_expects(family: str, subtests: pytest.Subtests) -> None:
    """One test a family: generating the suite, which takes 10 s, is left to the process that comes to it."""
    for name in names_of(family):
        if name not in OTHERWISE:
            with subtests.test(name):
                run_suite_case(name, ReferenceBackend)


SMALL = 25
"""Nodes of the models that the next test reads; `support/onnx_suite_run.py` compiles and runs all."""


def test_all_other_tests_are_as_the_suite_expects_or_refused() -> None:
    """Of every operator, those included that convc has no code for: no other error, and no other result."""
    wrong, count = [], 0
    tested = {name for family in FAMILIES for name in names_of(family)}
    for name in sorted(node_tests().keys() - tested):
        test = node_tests()[name]
        if len(test.model.graph.node) > SMALL:
            continue
        try:
            prepared = ReferenceBackend.prepare(test.model)
            found = [disagreement(test, prepared.run(given), expected) for given, expected in test.data]
            count += 1
        except ConvcError as error:
            found = [] if str(error).isprintable() else [str(error)]
        wrong += [f"{name}: {difference[:200]}" for difference in found if difference]
    assert wrong == []
    assert count >= 400  # of onnx 1.23; the others are refused


class Recorder(convc.backend.ConvcBackend):
    """Stops short of compiling: keeps each graph that convc's backend would compile, with its inputs."""

    kept: ClassVar[list[tuple[Graph, dict[str, Array]]]]

    @staticmethod
    def engine(graph: Graph) -> Runner:
        """Keep the graph."""

        def keep(inputs: Mapping[str, Array]) -> Sequence[Array]:
            Recorder.kept.append((graph, dict(inputs)))
            return ()

        return keep


@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_models_compute_what_the_suite_expects(family: str) -> None:
    """The family's models compiled as one: compiling and linking each would cost more than running it."""
    Recorder.kept = []
    tests, expected = [], []
    for test in (node_tests()[name] for name in names_of(family) if name not in {*REFUSED, *OTHERWISE}):
        for inputs, outputs in test.data:
            Recorder.prepare(test.model).run(inputs)
            tests.append(test)
            expected.append(outputs)
    whole = merge({f"{i}": graph for i, (graph, _) in enumerate(Recorder.kept)})
    arrays = feeds({f"{i}": inputs for i, (_, inputs) in enumerate(Recorder.kept)})
    found = iter(convc.backend.ConvcBackend.engine(whole)(arrays))
    wrong = []
    for test, outputs in zip(tests, expected, strict=True):
        if difference := disagreement(test, [next(found) for _ in outputs], outputs):
            wrong.append(f"{test.name}: {difference[:200]}")
    assert wrong == []


@pytest.mark.parametrize(
    "name",
    [
        "test_basic_conv_with_padding", "test_convtranspose_pads", "test_maxpool_2d_pads", "test_relu",
        "test_add_bcast", "test_clip", "test_concat_3d_axis_1", "test_slice", "test_tile",
        "test_split_equal_parts_1d_opset13", "test_maxpool_with_argmax_2d_precomputed_pads",
    ],
)  # fmt: skip
def test_models_run_one_by_one_through_the_backend(name: str) -> None:
    run_suite_case(name, convc.backend.ConvcBackend)


def test_families_are_not_empty_and_exclusions_exist() -> None:
    counts = {family: len(names_of(family)) for family in FAMILIES}
    assert min(counts.values()) >= 15, counts
    present = {name for family in FAMILIES for name in names_of(family)}  # a few came with later onnx
    assert len((OTHERWISE | set(REFUSED)) - present) <= 3


LIGHT_NETWORKS = sorted(LIGHT.glob("light_*.onnx"))


def light_case(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The suite's input (a ramp from 0 to 1) and expected output of a light network."""
    (info,) = read(path).inputs
    ramp = (np.arange(info.type.size) / info.type.size).astype(np.float32).reshape(info.type.shape)
    return ramp, numpy_helper.to_array(onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb")))


@pytest.mark.slow
@pytest.mark.parametrize("path", LIGHT_NETWORKS, ids=lambda p: p.stem)
def test_light_network_compiles_and_agrees(path: Path) -> None:
    x, expected = light_case(path)
    (found,) = convc.backend.prepare(onnx.load(path)).run([x])
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def test_there_are_nine_light_networks() -> None:
    assert len(LIGHT_NETWORKS) == 9


def test_backend_runs_single_nodes_on_the_cpu_only() -> None:
    x = np.float32([-1, 2])
    (found,) = convc.backend.run_node(onnx.helper.make_node("Relu", ["x"], ["y"]), [x])
    np.testing.assert_array_equal(found, [0, 2])
    assert convc.backend.supports_device("CPU")
    assert not convc.backend.supports_device("CUDA")


def test_backend_refuses_the_wrong_number_of_inputs() -> None:
    with pytest.raises(ConvcError, match="1 arrays are given for the inputs x, y"):
        ReferenceBackend.run_model(node_tests()["test_add"].model, [np.zeros((3, 4, 5), np.float32)])

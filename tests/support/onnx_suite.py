"""The node tests of the ONNX package: generated in memory by recent versions, files of earlier ones."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.loader
from onnx import numpy_helper

Arrays = list[Any]


@dataclass(frozen=True)
class SuiteTest:
    """A model, and sets of inputs with the outputs that the suite expects within its tolerances."""

    name: str
    model: onnx.ModelProto
    data: list[tuple[Arrays, Arrays]]
    rtol: float
    atol: float


@functools.cache
def node_tests() -> dict[str, SuiteTest]:
    """The suite's node tests by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite divides by zero while it prepares its data
        found = onnx.backend.test.loader.load_model_tests(kind="node")
    return {test.name: _loaded(test) for test in found}


def _loaded(test: Any) -> SuiteTest:
    if test.model is not None:
        data = [tuple([_array(item) for item in items] for items in pair) for pair in test.data_sets]
        return SuiteTest(test.name, test.model, data, test.rtol, test.atol)  # type: ignore[arg-type]
    folder = Path(test.model_dir)
    model = onnx.load(folder / "model.onnx")
    sets = [
        (_files(part, "input", model.graph.input), _files(part, "output", model.graph.output))
        for part in sorted(folder.glob("test_data_set_*"))
    ]
    return SuiteTest(test.name, model, sets, test.rtol, test.atol)


def _files(folder: Path, kind: str, infos: Any) -> Arrays:
    """The tensors in `{kind}_{i}.pb`; None for sequences and optionals, which convc refuses anyway."""
    return [
        _array(onnx.TensorProto.FromString((folder / f"{kind}_{i}.pb").read_bytes()))
        if info.type.HasField("tensor_type")
        else None
        for i, info in enumerate(infos)
    ]


def _array(item: Any) -> Any:
    """Arrays as they are, tensors as arrays; sequences and optionals stay messages or lists."""
    if isinstance(item, onnx.TensorProto) and item.data_type:
        return numpy_helper.to_array(item)
    return item


def disagreement(test: SuiteTest, found: Sequence[Any], expected: Sequence[Any]) -> str:
    """How results differ from what a test expects, in dtype, shape or beyond its tolerances; else nothing."""
    if len(found) != len(expected):
        return f"{len(found)} outputs, not {len(expected)}"
    for ours, theirs in zip(found, expected, strict=True):
        if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
            return f"{ours.dtype}{list(ours.shape)}, not {theirs.dtype}{list(theirs.shape)}"
        try:
            np.testing.assert_allclose(ours, theirs, rtol=test.rtol, atol=test.atol)
        except AssertionError as error:
            return " ".join(str(error).split())
    return ""


def arrays_of(test: SuiteTest) -> list[np.ndarray]:
    """The inputs of a test's first data set that are arrays of plain numbers."""
    return [
        a for a in (test.data[0][0] if test.data else []) if isinstance(a, np.ndarray) and not a.dtype.fields
    ]

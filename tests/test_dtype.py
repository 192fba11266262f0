"""Number formats: what is known of each is what NumPy and ml_dtypes say."""

from __future__ import annotations

import copy
import json
import pickle

import ml_dtypes
import numpy as np
import pytest

from convc.dtype import BFLOAT16, BOOL, DTYPES, FLOAT16, FLOAT32, FLOAT64, INT8, TF32, DType, Kind
from convc.errors import TypeRuleError
from convc.types import TensorType


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_agrees(dtype: DType) -> None:
    assert dtype.numpy.name == dtype
    assert dtype.numpy.itemsize == dtype.nbytes == np.zeros(3, dtype.numpy).itemsize
    if dtype.is_float:
        assert dtype.rounding == ml_dtypes.finfo(dtype.numpy).eps / 2
    else:
        assert dtype.rounding == 0
        assert dtype.kind.value == dtype.numpy.kind


@pytest.mark.parametrize("dtype", [*DTYPES, TF32])
def test_there_is_one_object_of_each(dtype: DType) -> None:
    for other in (copy.copy(dtype), copy.deepcopy([dtype])[0], pickle.loads(pickle.dumps(dtype))):
        assert other is dtype
    assert DType.of(str(dtype)) is dtype
    assert json.loads(json.dumps({dtype: dtype})) == {str(dtype): str(dtype)}
    assert f"{dtype} {dtype!r} {dtype!s}" == f"{dtype} '{dtype}' {dtype}"


def test_sums_are_float32_at_least() -> None:
    sums = {dtype: dtype.sums for dtype in (FLOAT16, BFLOAT16, FLOAT32, FLOAT64, INT8, TF32)}
    assert sums == {
        FLOAT16: FLOAT32, BFLOAT16: FLOAT32, FLOAT32: FLOAT32, FLOAT64: FLOAT64, INT8: INT8, TF32: TF32,
    }  # fmt: skip


def test_a_truth_value_takes_a_byte() -> None:
    assert (BOOL.bits, BOOL.nbytes, BOOL.kind) == (1, 1, Kind.TRUTH)


UNKNOWN = r"The dtype '\w+' is unknown\. Known are: float32, float64,"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(TypeRuleError, match=UNKNOWN):
        DType.of("complex64")


@pytest.mark.parametrize("name", ["complex64", "tf32"])
def test_no_tensor_is_of_a_format_that_is_not_stored(name: str) -> None:
    with pytest.raises(TypeRuleError, match=UNKNOWN):
        TensorType((1,), name)


def test_a_tensor_type_has_a_format() -> None:
    kind = TensorType((2, 3), "bfloat16")
    assert kind.dtype is BFLOAT16
    assert (kind.nbytes, str(kind)) == (12, "bfloat16[2,3]")

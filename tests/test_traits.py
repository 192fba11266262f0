"""What operators say of themselves holds, on the rows of the case table and on numbers of every size.

Where a trait can be told from samples both ways, an operator that does not claim it must show why.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from case import Case
from cases import CASES

from convc.errors import TypeRuleError
from convc.ir import Attrs, OpDef, opdef
from convc.ir.fields import Fields
from convc.ir.opdef import REGISTRY, register
from convc.ir.traits import Affine
from convc.types import Array, TensorType

SIZES = np.array([0.0, 1e-30, 1e-3, 0.5, 1.0, 2.0, 7.0, 90.0, 1e3, 1e6])
"""Of no two of them the product leaves float32's range."""
SAMPLES = np.concatenate([-SIZES[:0:-1], SIZES])
LINE = np.linspace(-7, 7, 2801)


def _attributes(op: str) -> list[Any]:
    """The attributes that the case table has for an operator."""
    return list(dict.fromkeys(case.attrs for case in CASES if case.op == op))


def _unary() -> list[tuple[str, Any]]:
    found = [name for name, op in REGISTRY.items() if op.elementwise and op.inputs == (1, 1)]
    return [(op, attrs) for op in found for attrs in _attributes(op)]


def _of_numbers(op: str, attrs: Any) -> bool:
    """Whether the operator takes floating-point numbers."""
    try:
        opdef(op).infer(attrs, [TensorType((1,))] * opdef(op).inputs[0])
    except TypeRuleError:
        return False
    return True


UNARY = [(op, attrs) for op, attrs in _unary() if _of_numbers(op, attrs)]
BINARY = [
    (name, attrs)
    for name, op in REGISTRY.items()
    if op.elementwise and op.inputs == (2, 2)
    for attrs in _attributes(name)
    if _of_numbers(name, attrs)
]
ids = str


def apply(op: str, attrs: Any, *arrays: Array) -> Array:
    """The first output, by the reference."""
    with np.errstate(all="ignore"):
        return opdef(op).reference(attrs, list(arrays))[0]


def test_the_table_has_every_elementwise_operator() -> None:
    covered = {op for op, _ in UNARY} | {op for op, _ in BINARY} | {"not", "and", "or", "xor", "where"}
    assert covered == {name for name, op in REGISTRY.items() if op.elementwise}


@pytest.mark.parametrize(("op", "attrs"), UNARY, ids=ids)
def test_monotone(op: str, attrs: Any) -> None:
    """The maximum of results is the result of the maximum, of whatever numbers."""
    with np.errstate(all="ignore"):
        y = apply(op, attrs, LINE).astype(np.float64)
        falls = bool((np.diff(y) < -1e-12).any() or np.isnan(y).any())
        lost = not np.isnan(apply(op, attrs, np.array([np.nan])).astype(np.float64)).all()
    if op == "cast":  # to integers: what is beyond their range is undefined
        assert not ((falls or lost) and opdef(op).monotone(attrs))
    else:
        assert (falls or lost) != opdef(op).monotone(attrs)


@pytest.mark.parametrize(("op", "attrs"), UNARY, ids=ids)
def test_idempotent(op: str, attrs: Any) -> None:
    once = apply(op, attrs, LINE)
    if once.dtype == np.float64 and not opdef(op).identity(attrs):
        again = apply(op, attrs, once)
        holds = np.array_equal(once, again, equal_nan=True)
        assert holds == opdef(op).idempotent or op in ("clip", "shrink")  # these only for some attributes


@pytest.mark.parametrize(("op", "attrs"), UNARY + BINARY, ids=ids)
def test_finite(op: str, attrs: Any) -> None:
    x, y = (a.reshape(-1) for a in np.meshgrid(SAMPLES, SAMPLES))
    operands = (x, y)[: opdef(op).inputs[0]]
    if op == "cast" and attrs.dtype == "float16":
        operands = (x.clip(-65504, 65504),)
    with np.errstate(all="ignore"):
        result = apply(op, attrs, *operands).astype(np.float32)
    assert bool(np.isfinite(result).all()) == opdef(op).finite


def _finite_cases() -> list[Case]:
    return [case for case in CASES if opdef(case.op).finite and not opdef(case.op).elementwise]


def test_finite_of_all_other_operators() -> None:
    for case in _finite_cases():
        arrays = [
            None if a is None else a.astype(np.float64) if a.dtype.kind == "f" else a for a in case.arrays()
        ]
        if all(t.size for t in case.inputs if t is not None):
            with np.errstate(all="ignore"):
                outputs = opdef(case.op).reference(case.attrs, arrays)
            assert all(np.isfinite(y).all() for y in outputs if y.dtype.kind == "f"), case.id


@pytest.mark.parametrize(("op", "attrs"), BINARY, ids=ids)
def test_commutative_and_neutral(op: str, attrs: Any) -> None:
    x, y = (a.reshape(-1) for a in np.meshgrid(SAMPLES, SAMPLES))
    same = np.array_equal(apply(op, attrs, x, y), apply(op, attrs, y, x), equal_nan=True)
    assert same == opdef(op).commutative
    for number in (0.0, 1.0):
        leaves = np.array_equal(apply(op, attrs, SAMPLES, np.full_like(SAMPLES, number)), SAMPLES)
        assert leaves == (opdef(op).neutral == number) or op in ("max", "min"), number


@pytest.mark.parametrize("op", [name for name, op in REGISTRY.items() if op.zeroed_by])
def test_zeroed(op: str) -> None:
    count = opdef(op).inputs[0]
    for zero in opdef(op).zeroed_by:
        rows = []
        for seed in range(2):
            other = np.random.default_rng(seed).standard_normal(9)
            arrays = [other if i == (zero + 1) % count else np.ones(9) for i in range(count)]
            arrays[zero] = np.zeros(9, bool if op == "where" else np.float64)
            rows.append(apply(op, opdef(op).attrs(), *arrays))
        np.testing.assert_array_equal(*rows)


WIDE = [
    case for case in CASES
    if case.inputs[0] is not None and case.inputs[0].dtype == "float32" and case.inputs[0].size
]  # fmt: skip


def _exact_arrays(case: Case) -> list[Array | None]:
    return [None if a is None else a.astype(np.float64) if a.dtype.kind == "f" else a for a in case.arrays()]


def test_what_is_exact_needs_no_rounding() -> None:
    tested = set()
    for case in WIDE:
        if opdef(case.op).exact:
            (y, *_) = opdef(case.op).reference(case.attrs, _exact_arrays(case))
            if case.op != "cast":
                assert np.array_equal(y.astype(np.float32), y, equal_nan=True), case.id
            tested.add(case.op)
    assert {"relu", "floor", "max_pool", "transpose", "reduce_max", "argmax"} <= tested


def test_identity() -> None:
    tested = set()
    for case in WIDE:
        op = opdef(case.op)
        outputs = op.infer(case.attrs, case.inputs)
        if op.identity(case.attrs) and len(case.inputs) == 1 and outputs == (case.inputs[0],):
            (x,) = case.arrays()
            np.testing.assert_array_equal(apply(case.op, case.attrs, x), x, err_msg=case.id)
            tested.add(case.op)
    assert {"identity", "dropout"} <= tested


def _is_identity(op: str, attrs: Any, *shape: int) -> bool:
    """Whether the operator says that it is one, which then must hold."""
    x = np.random.default_rng(0).standard_normal(shape)
    if opdef(op).identity(attrs):
        np.testing.assert_array_equal(apply(op, attrs, x), x)
        return True
    return False


def test_identities_by_attributes() -> None:
    pool: Any = next(case.attrs for case in CASES if case.op == "max_pool" and len(case.attrs.kernel) == 2)
    average: Any = next(c.attrs for c in CASES if c.op == "average_pool" and len(c.attrs.kernel) == 2)
    one = {"kernel": (1, 1), "strides": (1, 1), "dilations": (1, 1), "pads": ((0, 0), (0, 0))}
    assert _is_identity("max_pool", replace(pool, **one), 1, 2, 3, 4)
    assert not _is_identity("max_pool", replace(pool, **{**one, "strides": (2, 1)}), 1, 2, 3, 4)
    assert _is_identity("average_pool", replace(average, **one), 1, 2, 3, 4)
    clip = opdef("clip").attrs
    assert _is_identity("clip", clip(), 7)
    assert not _is_identity("clip", clip(min=0.0), 7)
    transpose = opdef("transpose").attrs
    assert _is_identity("transpose", transpose(perm=(0, 1, 2)), 2, 3, 4)
    assert not _is_identity("transpose", transpose(perm=(0, 2, 1)), 2, 3, 4)


def _mapped(case: Case) -> bool:
    """Whether the case has channels, each of its own in the result."""
    op, x = opdef(case.op), case.inputs[0]
    assert x is not None
    y = op.infer(case.attrs, case.inputs)[0]
    return x.rank > 1 < y.rank and op.per_channel(case.attrs, case.inputs) and x.shape[:2] == y.shape[:2]


def test_each_channel_is_made_from_its_own() -> None:
    tested = set()
    for case in filter(_mapped, WIDE):
        arrays = _exact_arrays(case)
        x = arrays[0]
        assert x is not None
        changed = x.copy()
        changed[-1, -1] = changed[-1, -1] * 1.5 + 0.25
        with np.errstate(all="ignore"):
            before, after = (opdef(case.op).reference(case.attrs, [a, *arrays[1:]])[0] for a in (x, changed))
        differ = np.argwhere((before != after) & ~(np.isnan(before) & np.isnan(after)))
        assert (differ[:, :2] == np.array(x.shape[:2]) - 1).all(), case.id
        tested.add(case.op)
    assert {"max_pool", "average_pool", "batch_norm", "reduce_mean", "relu", "resize", "pad"} <= tested


@pytest.mark.parametrize("flag", [Affine.SCALE, Affine.NEGATIVE, Affine.SHIFT], ids=lambda f: f.name)
def test_maps_pass_where_operators_say_so(flag: Affine) -> None:
    tested = set()
    for case in filter(_mapped, WIDE):
        op = opdef(case.op)
        if flag not in op.passes(case.attrs) or len(case.inputs) > 1:
            continue
        (x,) = _exact_arrays(case)
        assert x is not None
        rng = np.random.default_rng(1)
        scale, shift = np.ones(x.shape[1]), np.zeros(x.shape[1])
        if flag is Affine.SHIFT:
            shift = rng.uniform(-3, 3, x.shape[1])
        else:
            scale = rng.uniform(0, 3, x.shape[1]) * (1 if flag is Affine.SCALE else -1)
        y = op.reference(case.attrs, [x])[0]
        by_input = op.reference(case.attrs, [_along(scale, x) * x + _along(shift, x)])[0]
        by_output = _along(scale, y) * y + _along(shift, y)
        np.testing.assert_allclose(by_input, by_output, rtol=1e-9, atol=1e-9, err_msg=case.id)
        tested.add(case.op)
    assert {"average_pool", "reduce_mean", "resize"} <= tested


def _along(values: Array, like: Array) -> Array:
    return values.reshape(-1, *[1] * (like.ndim - 2))


# --- what is left unsaid is noticed ---


class _Silent(OpDef[Attrs]):
    """Says nothing."""

    name = "silent"

    def infer(self, attrs: Attrs, inputs: Any) -> tuple[TensorType, ...]:
        return tuple(inputs)

    def reference(self, attrs: Attrs, inputs: Any) -> tuple[Array, ...]:
        return tuple(inputs)


@pytest.mark.parametrize(
    ("members", "missing"),
    [
        ({}, "finite, receptive"),
        ({"finite": True}, "receptive"),
        ({"formula": abs}, "finite, monotone"),
        ({"formula": abs, "finite": True}, "monotone"),
    ],
)
def test_an_operator_that_leaves_something_unsaid_is_refused(members: dict[str, Any], missing: str) -> None:
    with pytest.raises(TypeError, match=f"The operator 'silent' does not say: {missing} "):
        register(type("Silent", (_Silent,), members))
    assert "silent" not in REGISTRY


def test_an_operator_that_says_all_is_accepted() -> None:
    def receptive(self: Any, attrs: Attrs, operands: Any, out: Any) -> Fields:
        return ()

    register(type("Silent", (_Silent,), {"finite": True, "receptive": receptive}))
    assert REGISTRY.pop("silent").finite

"""Explicit padding taken in by the window that follows."""

from __future__ import annotations

import pytest
from pass_checks import check_pass, check_refused

from convc.passes.fold_padding import FoldPadding

WINDOW = "kernel=(2, 2), strides=(1, 1), dilations=(1, 1)"


def test_into_convolution():
    check_pass(
        FoldPadding(),
        """
        input %x : float32[1,1,3,3]
        const %w : float32[1,1,2,2] = [1.0, 2.0, 3.0, 4.0]
        %p : float32[1,1,4,6] = pad(%x) {pads=((0, 0), (0, 0), (1, 0), (1, 2))}
        %y : float32[1,1,4,7] = conv(%p, %w) {strides=(1, 1), dilations=(1, 1), pads=((0, 1), (1, 1))}
        output %y
        """,
        """
        input %x : float32[1,1,3,3]
        const %w : float32[1,1,2,2] = [1.0, 2.0, 3.0, 4.0]
        %y : float32[1,1,4,7] = conv(%x, %w) {strides=(1, 1), dilations=(1, 1), pads=((1, 1), (2, 3))}
        output %y
        """,
        exact=True,
    )


def test_a_pad_with_other_readers_stays_for_them():
    check_pass(
        FoldPadding(),
        """
        input %x : float32[1,1,3]
        const %w : float32[1,1,2] = [1.0, 2.0]
        %p : float32[1,1,5] = pad(%x) {pads=((0, 0), (0, 0), (1, 1))} from "Pad"
        %y : float32[1,1,4] = conv(%p, %w) {strides=(1,), dilations=(1,), pads=((0, 0),)} from "Conv_1"
        %z : float32[1,1,5] = neg(%p)
        output %y
        output %z
        """,
        """
        input %x : float32[1,1,3]
        const %w : float32[1,1,2] = [1.0, 2.0]
        %p : float32[1,1,5] = pad(%x) {pads=((0, 0), (0, 0), (1, 1))} from "Pad"
        %y : float32[1,1,4] = conv(%x, %w) {strides=(1,), dilations=(1,), pads=((1, 1),)} from "Conv_1", "Pad"
        %z : float32[1,1,5] = neg(%p)
        output %y
        output %z
        """,
        exact=True,
    )


@pytest.mark.parametrize(
    ("first", "shape", "total"),
    [
        ("((0, 0), (0, 0))", "1,1,4,1", "((1, 2), (0, 0))"),
        ("((1, 0), (0, 1)), count_include_pad=True", "1,1,5,2", "((2, 2), (0, 1))"),
    ],
)
def test_into_average_pool(first, shape, total):
    window = "kernel=(3, 3), strides=(1, 1), dilations=(1, 1)"
    check_pass(
        FoldPadding(),
        f"""
        input %x : float32[1,1,3,3]
        %p : float32[1,1,6,3] = pad(%x) {{pads=((0, 0), (0, 0), (1, 2), (0, 0))}}
        %y : float32[{shape}] = average_pool(%p) {{{window}, pads={first}}}
        output %y
        """,
        f"""
        input %x : float32[1,1,3,3]
        %y : float32[{shape}] = average_pool(%x) {{{window}, pads={total}, count_include_pad=True}}
        output %y
        """,
    )


def test_into_lp_pool():
    check_pass(
        FoldPadding(),
        f"""
        input %x : float32[1,1,3,3]
        %p : float32[1,1,5,3] = pad(%x) {{pads=((0, 0), (0, 0), (1, 1), (0, 0))}}
        %y : float32[1,1,4,2] = lp_pool(%p) {{{WINDOW}, pads=((0, 0), (0, 0))}}
        output %y
        """,
        f"""
        input %x : float32[1,1,3,3]
        %y : float32[1,1,4,2] = lp_pool(%x) {{{WINDOW}, pads=((1, 1), (0, 0))}}
        output %y
        """,
    )


NONE = "pads=((0, 0), (0, 0))"
SPATIAL = "pads=((0, 0), (0, 0), (1, 1), (1, 1))"


@pytest.mark.parametrize(
    ("pad", "reader", "shape", "reason"),
    [
        (f"{{{SPATIAL}}}", f"max_pool(%p) {{{WINDOW}, {NONE}}}", "1,1,4,4", "'p' can be a max"),
        (
            f"{{{SPATIAL}}}", f"average_pool(%p) {{{WINDOW}, {NONE}, ceil_mode=True}}", "1,1,4,4",
            "with ceil_mode, the pad 'p' decides how many windows",
        ),
        (
            f"{{{SPATIAL}}}", f"average_pool(%p) {{{WINDOW}, pads=((1, 0), (0, 0))}}", "1,1,5,4",
            r"zeros of the pad 'p' count in the average, those of its own pads \(\(1, 0\), \(0, 0\)\) do not",
        ),
        (
            f"{{{SPATIAL}}}", f"average_pool(%p) {{{WINDOW}, pads=((0, 1), (0, 0)), count_include_pad=True}}",
            "1,1,5,4", r"with the zeros .* of the pad 'p', some windows of a pool would lie outside",
        ),
        (f"{{{SPATIAL}, mode='edge'}}", "CONV", "1,1,4,4", "the pad 'p' has mode edge; only zeros"),
        (f"{{{SPATIAL}, value=1.0}}", "CONV", "1,1,4,4", "the pad 'p' has value 1.0; only zeros"),
        ("{pads=((0, 1), (0, 0), (1, 1), (1, 1))}", "CONV", "2,1,4,4", r"pads the batch .* by \(\(0, 1\)"),
        ("{pads=((0, 0), (0, 0), (-1, 2), (1, 1))}", "CONV", "1,1,3,4", "the pad 'p' crops"),
        (f"{{{SPATIAL}}} | relu(.)", "CONV", "1,1,4,4", "the pad 'p' has an epilogue"),
    ],
)  # fmt: skip
def test_refusals(pad, reader, shape, reason):
    padded = {"2,1,4,4": "2,1,5,5", "1,1,3,4": "1,1,4,5"}.get(shape, "1,1,5,5")
    reader = reader.replace("CONV", "conv(%p, %w) {strides=(1, 1), dilations=(1, 1), pads=((0, 0), (0, 0))}")
    check_refused(
        FoldPadding(),
        f"""
        input %x : float32[1,1,3,3]
        const %w : float32[1,1,2,2] = [1.0, 2.0, 3.0, 4.0]
        %p : float32[{padded}] = pad(%x) {pad}
        %y : float32[{shape}] = {reader}
        output %y
        """,
        reason,
    )

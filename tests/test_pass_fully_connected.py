"""Convolutions that make one pixel become matrix products."""

from __future__ import annotations

import pytest
from pass_checks import CONV, PADDED, check_pass, check_refused, check_untouched, graph_of

from convc.ir import verify
from convc.passes.fully_connected import FullyConnected
from convc.passes.pipeline import run_pipeline


def test_pointwise_convolution_of_a_pixel_with_its_epilogue():
    head = """
        input %x : float32[2,2,1,1]
        input %r : float32[2,3,1,1]
        const %w : float32[3,2,1,1] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        const %b : float32[3] = [1.0, 2.0, 3.0]
        const %s : float32[1,3,1,1] = [1.0, -1.0, 2.0]"""
    check_pass(
        FullyConnected(),
        f"""{head}
        %y : float32[2,3,1,1] = conv(%x, %w, %b) {CONV} | sub(%r, .) | mul(., %s) | relu(.) name "fc" from "C"
        output %y
        """,
        f"""{head}
        const %fc.weights : float32[3,2] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        const %s.1 : float32[1,3] = [1.0, -1.0, 2.0]
        %fc.flat : float32[2,2] = reshape(%x) {{shape=(2, 2)}}
        %fc.flat.1 : float32[2,3] = reshape(%r) {{shape=(2, 3)}}
        %gemm : float32[2,3] = gemm(%fc.flat, %fc.weights, %b) {{trans_b=True}} | sub(%fc.flat.1, .) \
| mul(., %s.1) | relu(.) name "fc" from "C"
        %fc.flat.2 : float32[2,3,1,1] = reshape(%gemm) {{shape=(2, 3, 1, 1)}}
        output %fc.flat.2 as "y"
        """,
    )


@pytest.mark.parametrize(
    ("shape", "kernel", "attrs", "taps"),
    [
        ("2,2", "2,2", CONV, "1.0, 2.0, 3.0, 4.0"),
        ("1,1", "3,3", PADDED, "5.0"),
        ("1,2", "3,3", "{strides=(1, 2), dilations=(1, 1), pads=((1, 1), (1, 1))}", "5.0, 6.0"),
        ("2,1", "3,3", "{strides=(2, 1), dilations=(1, 2), pads=((0, 1), (2, 2))}", "2.0, 5.0"),
    ],
)
def test_taps_beyond_the_border_are_left_out(shape, kernel, attrs, taps):
    count = 9 if kernel == "3,3" else 4
    values = ", ".join(f"{i + 1}.0" for i in range(count))
    size = taps.count(",") + 1
    head = f"""
        input %x : float32[1,1,{shape}]
        const %w : float32[1,1,{kernel}] = [{values}]"""
    check_pass(
        FullyConnected(),
        f"""{head}
        %y : float32[1,1,1,1] = conv(%x, %w) {attrs}
        output %y
        """,
        f"""{head}
        const %y.weights : float32[1,{size}] = [{taps}]
        %y.flat : float32[1,{size}] = reshape(%x) {{shape=(1, {size})}}
        %gemm : float32[1,1] = gemm(%y.flat, %y.weights) {{trans_b=True}} name "y"
        %y.flat.1 : float32[1,1,1,1] = reshape(%gemm) {{shape=(1, 1, 1, 1)}}
        output %y.flat.1 as "y"
        """,
    )


@pytest.mark.parametrize(
    ("shape", "w", "attrs", "reason"),
    [
        ("2,1,1", "2,1,1,1", CONV[:-1] + ", groups=2}", "its 2 groups would be as many products"),
        (
            "1,2,2", "1,1,1,1", CONV.replace("(1, 1), d", "(2, 2), d"),
            r"its window does not see each of the \(2, 2\) pixels",
        ),
        (
            "1,3,1", "1,1,2,1", CONV.replace("dilations=(1, 1)", "dilations=(2, 1)"),
            r"its window does not see each of the \(3, 1\) pixels",
        ),
        (
            "1,1,1", "1,1,2,2", "{strides=(1, 1), dilations=(2, 2), pads=((1, 1), (1, 1))}",
            r"its window does not see each of the \(1, 1\) pixels",
        ),
    ],
)  # fmt: skip
def test_refusals(shape, w, attrs, reason):
    extents = [int(e) for e in w.split(",")]
    size = extents[0] * extents[1] * extents[2] * extents[3]
    check_refused(
        FullyConnected(),
        f"""
        input %x : float32[1,{shape}]
        const %w : float32[{w}] = [{", ".join(["2.0"] * size)}]
        %y : float32[1,{extents[0]},1,1] = conv(%x, %w) {attrs}
        output %y
        """,
        reason,
    )


def test_weights_computed_at_run_time_are_refused():
    text = f"""
        input %x : float32[1,2,1,1]
        input %w : float32[2,2,1,1]
        %y : float32[1,2,1,1] = conv(%x, %w) {CONV}
        output %y
        """
    check_refused(FullyConnected(), text, "its weights or bias are computed at run time")


def test_larger_maps_stay():
    check_untouched(
        FullyConnected(),
        f"""
        input %x : float32[1,2,1,2]
        const %w : float32[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
        %y : float32[1,2,1,2] = conv(%x, %w) {CONV}
        output %y
        """,
    )


def test_squeeze_and_excitation_needs_no_reshape_in_between():
    graph = graph_of(
        f"""
        input %x : float32[1,2,4,4]
        const %w : float32[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
        %m : float32[1,2,1,1] = reduce_mean(%x) {{axes=(2, 3), keepdims=True}}
        %a : float32[1,2,1,1] = conv(%m, %w) {CONV}
        %b : float32[1,2,1,1] = relu(%a)
        %c : float32[1,2,1,1] = conv(%b, %w) {CONV}
        %d : float32[1,2,1,1] = sigmoid(%c)
        %y : float32[1,2,4,4] = mul(%x, %d)
        output %y
        """
    )
    run_pipeline(graph)
    verify(graph)
    assert [n.op for n in graph.nodes] == ["reduce_mean", "reshape", "gemm", "gemm", "reshape", "mul"]

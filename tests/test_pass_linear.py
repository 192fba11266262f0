"""Folding batch normalisation and constant arithmetic into linear layers."""

from __future__ import annotations

import numpy as np
import pytest
from pass_checks import (
    CONV,
    NORM,
    PADDED,
    check_pass,
    check_refused,
    check_same_results,
    check_untouched,
    graph_of,
    norm,
)

from convc.ir import verify
from convc.ir.printing import digest
from convc.passes.fold_affine import FoldAffine

# ---- after the layer


@pytest.mark.parametrize("calls", [("conv(%x, %w)", "div(%a, %k)"), ("div(%x, %k)", "conv(%a, %w)")])
def test_weights_stay_within_their_dtype(calls):
    """1e20 / 1e-30 is infinite in float32, and its product with a pixel of 0 NaN."""
    settings = "{strides=(1, 1), dilations=(1, 1), pads=((0, 0), (0, 0))}"
    first, second = (f"{c} {settings}" if c.startswith("conv") else c for c in calls)
    text = f"""
    input %x : float32[1,1,3,3]
    const %w : float32[1,1,1,1] = [1e+20]
    const %k : float32[] = [1e-30]
    %a : float32[1,1,3,3] = {first}
    %b : float32[1,1,3,3] = {second}
    output %b
    """
    check_refused(FoldAffine(), text, "a weight of '.' would be 1.0e\\+50, more than float32 has")


def test_batch_norm_after_convolution():
    changes = check_pass(
        FoldAffine(),
        f"""
        input %x : float32[1,1,3,3]
        const %w : float32[2,1,1,1] = [1.0, -2.0]
        const %b : float32[2] = [4.0, 2.0]
        {NORM}
        %c : float32[1,2,3,3] = conv(%x, %w, %b) {CONV} name "conv1" from "Conv_0"
        %{norm("c", "n")} name "bn1" from "Bn_1"
        %y : float32[1,2,3,3] = relu(%n)
        output %y
        """,
        f"""
        input %x : float32[1,1,3,3]
        const %gamma : float32[2] = [2.0, 3.0]
        const %beta : float32[2] = [1.0, -1.0]
        const %mean : float32[2] = [0.5, 1.0]
        const %var : float32[2] = [0.75, 3.75]
        const %w : float32[2,1,1,1] = [2.0, -3.0]
        const %b : float32[2] = [8.0, 0.5]
        %c : float32[1,2,3,3] = conv(%x, %w, %b) {CONV} name "conv1" from "Conv_0", "Bn_1"
        %y : float32[1,2,3,3] = relu(%c)
        output %y
        """,
    )
    assert str(changes) == "bn1 (from Bn_1): batch_norm folded into the weights of 'conv1' before it"


def test_batch_norm_after_padded_convolution_without_bias_keeps_shared_weights():
    """Two convolutions share %w; the first gets weights of its own, in float32."""
    rng = np.random.default_rng(0)
    constants = {"w": rng.standard_normal((2, 2, 3, 3)).astype(np.float32)}
    text = f"""
    input %x : float32[1,2,3,3]
    const %w : float32[2,2,3,3] = @sha256:DIGEST
    {NORM}
    %c : float32[1,2,3,3] = conv(%x, %w, _) {PADDED}
    %{norm("c", "n")}
    %d : float32[1,2,3,3] = conv(%n, %w) {PADDED}
    output %d
    """
    text = text.replace("DIGEST", digest(constants["w"]))
    graph, reference = graph_of(text, constants), graph_of(text, constants)
    assert FoldAffine().run(graph)
    verify(graph)
    first, second = graph.nodes
    assert [v.name for v in first.inputs] == ["x", "w.1", "c.bias"]
    assert graph.constant(first.inputs[1]).dtype == np.float32
    np.testing.assert_array_equal(graph.constant(second.inputs[1]), constants["w"])
    check_same_results(reference, graph, float(np.finfo(np.float32).eps))


@pytest.mark.parametrize(
    ("statement", "weights", "bias"),
    [
        ("mul(%c, %k)", "[2.0, 8.0]", "[2.0, 4.0]"),
        ("mul(%k, %c)", "[2.0, 8.0]", "[2.0, 4.0]"),
        ("add(%c, %k)", "[1.0, 2.0]", "[3.0, 5.0]"),
        ("add(%k, %c)", "[1.0, 2.0]", "[3.0, 5.0]"),
        ("sub(%c, %k)", "[1.0, 2.0]", "[-1.0, -3.0]"),
        ("sub(%k, %c)", "[-1.0, -2.0]", "[1.0, 3.0]"),
        ("div(%c, %k)", "[0.5, 0.5]", "[0.5, 0.25]"),
        ("mul(%c, %s)", "[3.0, 6.0]", "[3.0, 3.0]"),
        ("add(%s, %c)", "[1.0, 2.0]", "[4.0, 4.0]"),
    ],
)
def test_arithmetic_after_convolution(statement, weights, bias):
    constants = "const %k : float32[2,1,1] = [2.0, 4.0]\nconst %s : float32[] = [3.0]"
    check_pass(
        FoldAffine(),
        f"""
        input %x : float32[3,1,2,2]
        {constants}
        const %w : float32[2,1,1,1] = [1.0, 2.0]
        const %b : float32[2] = [1.0, 1.0]
        %c : float32[3,2,2,2] = conv(%x, %w, %b) {CONV}
        %y : float32[3,2,2,2] = {statement}
        output %y
        """,
        "input %x : float32[3,1,2,2]\n"
        + constants
        + f"\nconst %w : float32[2,1,1,1] = {weights}"
        + f"""
        const %b : float32[2] = {bias}
        %c : float32[3,2,2,2] = conv(%x, %w, %b) {CONV}
        output %c as "y"
        """,
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_after_transposed_convolution(groups):
    outputs = 4 // groups
    check_random(
        f"""
        input %x : float32[1,4,3,3]
        const %w : float32[4,{outputs},2,2] = RANDOM
        const %k : float32[1,4,1,1] = [2.0, -3.0, 0.5, 7.0]
        %c : float32[1,4,4,4] = conv_transpose(%x, %w) {CONV[:-1]}, groups={groups}}}
        %y : float32[1,4,4,4] = mul(%c, %k)
        %z : float32[1,4,4,4] = add(%y, %k)
        output %z
        """,
        ["conv_transpose"],
    )


@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("bias", ["_", "%scalar", "%row", "%column", "%full"])
def test_after_fully_connected(trans_b, bias):
    shape = "4,3" if trans_b else "3,4"
    check_random(
        f"""
        input %x : float32[2,3]
        const %w : float32[{shape}] = RANDOM
        const %scalar : float32[] = [3.0]
        const %row : float32[1,4] = [1.0, 2.0, 3.0, 4.0]
        const %column : float32[2,1] = [1.0, 2.0]
        const %full : float32[2,4] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
        const %k : float32[4] = [2.0, -3.0, 0.5, 7.0]
        const %one : float32[4] = [1.0, 1.5, 2.0, 3.0]
        %c : float32[2,4] = gemm(%x, %w, {bias}) {{trans_b={trans_b}}}
        %y : float32[2,4] = mul(%c, %k)
        %z : float32[2,4] = batch_norm(%y, %k, %one, %k, %one)
        output %z
        """,
        ["gemm"],
    )


def test_scale_after_batched_matmul_follows_the_last_axis():
    check_random(
        """
        input %x : float32[2,3,4]
        const %w : float32[4,5] = RANDOM
        const %k : float32[5] = [2.0, -3.0, 0.5, 7.0, 1.0]
        %c : float32[2,3,5] = matmul(%x, %w)
        %y : float32[2,3,5] = mul(%c, %k)
        output %y
        """,
        ["matmul"],
    )


def test_what_a_matmul_cannot_take():
    check_untouched(
        FoldAffine(),
        """
        input %x : float32[2,3,4]
        const %w : float32[4,1] = [1.0, 2.0, 3.0, 4.0]
        const %k : float32[3,1] = [2.0, -3.0, 0.5]
        const %s : float32[1] = [2.0]
        %c : float32[2,3,1] = matmul(%x, %w)
        %y : float32[2,3,1] = mul(%c, %k)
        %d : float32[2,3,1] = matmul(%x, %w)
        %z : float32[2,3,1] = add(%d, %s)
        output %y
        output %z
        """,
    )


def check_random(text: str, ops: list[str]) -> None:
    """FoldAffine leaves `ops`, with equal results in float64; RANDOM stands for arrays drawn here."""
    rng = np.random.default_rng(0)
    lines, constants = [], {}
    for line in text.replace("float32", "float64").strip().splitlines():
        if "RANDOM" in line:
            name, shape = line.split("%")[1].split(" ")[0], line.split("[")[1].split("]")[0]
            array = rng.standard_normal(tuple(map(int, shape.split(","))))
            constants[name] = array
            inline = "[" + ", ".join(map(str, array.flat)) + "]"
            line = line.replace("RANDOM", inline if array.size <= 16 else f"@sha256:{digest(array)}")
        lines.append(line)
    graph, reference = (graph_of("\n".join(lines), constants) for _ in range(2))
    assert FoldAffine().run(graph)
    verify(graph)
    assert [n.op for n in graph.nodes] == ops
    check_same_results(reference, graph, float(np.finfo(np.float64).eps))
    assert not FoldAffine().run(graph)


# ---- before the layer


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norm_before_convolution(groups):
    check_random(
        f"""
        input %x : float32[2,4,5,5]
        const %w : float32[6,{4 // groups},3,3] = RANDOM
        const %k : float32[4] = [2.0, -3.0, 0.5, 7.0]
        const %v : float32[4] = [2.0, 3.0, 0.5, 7.0]
        %n : float32[2,4,5,5] = batch_norm(%x, %k, %v, %k, %v)
        %c : float32[2,6,3,3] = conv(%n, %w) {CONV[:-1]}, groups={groups}}}
        output %c
        """,
        ["conv"],
    )


def test_scale_before_padded_and_transposed_convolutions():
    """All readers take the map in; each gets its own weights."""
    check_random(
        f"""
        input %x : float32[1,2,4,4]
        const %w : float32[2,2,3,3] = RANDOM
        const %k : float32[2,1,1] = [2.0, -3.0]
        %n : float32[1,2,4,4] = mul(%x, %k)
        %c : float32[1,2,4,4] = conv(%n, %w) {PADDED}
        %d : float32[1,2,4,4] = conv_transpose(%n, %w) {PADDED}
        output %c
        output %d
        """,
        ["conv", "conv_transpose"],
    )


@pytest.mark.parametrize("trans_b", [False, True])
def test_before_fully_connected_through_a_flattening(trans_b):
    check_random(
        f"""
        input %x : float32[3,2,2,2]
        const %w : float32[{"5,8" if trans_b else "8,5"}] = RANDOM
        const %k : float32[2] = [2.0, -3.0]
        const %v : float32[2] = [2.0, 3.0]
        %n : float32[3,2,2,2] = batch_norm(%x, %k, %v, %k, %v)
        %f : float32[3,8] = reshape(%n) {{shape=(3, 8)}}
        %c : float32[3,5] = gemm(%f, %w) {{trans_b={trans_b}}}
        output %c
        """,
        ["reshape", "gemm"],
    )


def test_before_matmul_follows_the_last_axis():
    check_random(
        """
        input %x : float32[2,3,4]
        const %w : float32[4,5] = RANDOM
        const %k : float32[4] = [2.0, -3.0, 0.5, 7.0]
        %n : float32[2,3,4] = mul(%x, %k)
        %c : float32[2,3,5] = matmul(%n, %w)
        output %c
        """,
        ["matmul"],
    )


# ---- refusals

HEAD = f"""
input %x : float32[1,2,3,3]
input %v : float32[2,2,1,1]
input %u : float32[2]
const %w : float32[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
const %k : float32[2,1,1] = [2.0, 4.0]
const %zero : float32[2,1,1] = [0.0, 4.0]
{NORM}
"""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            f"%c : float32[1,2,3,3] = conv(%x, %w) {CONV}\n%{norm('c', 'y')}\noutput %c",
            "the output of 'c' has other users",
        ),
        (
            f"%c : float32[1,2,3,3] = conv(%x, %w) {CONV}\n%{norm('c', 'y')}\n"
            "%z : float32[1,2,3,3] = neg(%c)",
            "the output of 'c' has other users",
        ),
        (
            f"%c : float32[1,2,3,3] = conv(%x, %w) {CONV} | relu(.)\n%{norm('c', 'y')}",
            "'c' already has an epilogue",
        ),
        (
            f"%c : float32[1,2,3,3] = conv(%x, %v) {CONV}\n%{norm('c', 'y')}",
            "the weights of 'c' are computed",
        ),
        (
            f"%c : float32[1,2,3,3] = conv(%x, %w, %u) {CONV}\n%{norm('c', 'y')}",
            "the bias of 'c' is computed",
        ),
        (
            f"%c : float32[1,2,3,3] = conv(%x, %w) {CONV}\n%y : float32[1,2,3,3] = div(%c, %zero)",
            "its factors are not all finite",
        ),
        (
            f"%{norm('x', 'n')}\n%y : float32[1,2,5,5] = conv(%n, %w) {PADDED}",
            r"'y' pads by \(\(1, 1\), \(1, 1\)\), and the map has a shift",
        ),
        (
            f"%{norm('x', 'n')}\n%y : float32[1,2,3,3] = conv_transpose(%n, %w) {CONV}",
            r"'y' \(conv_transpose\) can take in a scale, but not a shift",
        ),
        (
            f"%{norm('x', 'n')}\n%y : float32[1,2,3,3] = conv(%n, %w) {CONV} | relu(.)",
            "'y' has an epilogue and no bias to take the shift",
        ),
        (
            f"%n : float32[2,2,1,1] = mul(%v, %k)\n%y : float32[1,2,3,3] = conv(%x, %n) {CONV}",
            "'y' reads it as weights, bias or operand",
        ),
        (
            f"%n : float32[1,2,3,3] = mul(%x, %k)\n%y : float32[1,2,3,3] = conv(%n, %w) {CONV} | add(., %n)",
            "'y' reads it as weights, bias or operand",
        ),
    ],
)
def test_refusals(body, reason):
    check_refused(FoldAffine(), f"{HEAD}{body}\noutput %y", reason)


@pytest.mark.parametrize(
    ("attrs", "reason"),
    [("{alpha=2.0}", "'y' has alpha 2.0 and beta 1.0"), ("{trans_a=True}", "'y' reads it transposed")],
)
def test_gemm_refusals(attrs, reason):
    check_refused(
        FoldAffine(),
        f"""
        input %x : float32[2,2]
        const %w : float32[2,2] = [1.0, 2.0, 3.0, 4.0]
        const %k : float32[2] = [2.0, 4.0]
        %n : float32[2,2] = mul(%x, %k)
        %y : float32[2,2] = gemm(%n, %w) {attrs}
        output %y
        """,
        reason,
    )

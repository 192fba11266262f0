"""Epilogue fusion."""

from __future__ import annotations

import pytest
from cases import cases
from pass_checks import (
    CONV,
    PADDED,
    check_pass,
    check_refused,
    check_same_results,
    check_untouched,
    graph_of,
)

from convc.ir import verify
from convc.ir.opdef import REGISTRY
from convc.passes.fuse_epilogues import FuseEpilogues

HEAD = """
input %x : float32[1,2,3,3]
input %r : float32[1,2,3,3]
const %w : float32[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
const %v : float32[2,2,1,1] = [-1.0, 2.0, -3.0, 4.0]
""".strip()
T = "float32[1,2,3,3]"


@pytest.mark.parametrize("operands", ["%c, %r", "%r, %c"])
def test_residual_sum_and_activation_in_either_order(operands):
    changes = check_pass(
        FuseEpilogues(),
        f"""
        {HEAD}
        %c : {T} = conv(%x, %w) {CONV} name "conv1" from "Conv_0"
        %a : {T} = add({operands}) from "Add_1"
        %y : {T} = relu(%a) from "Relu_2"
        output %y as "out"
        """,
        f"""
        {HEAD}
        %c : {T} = conv(%x, %w) {CONV} | add(., %r) | relu(.) name "conv1" from "Conv_0", "Add_1", "Relu_2"
        output %c as "out"
        """,
        exact=True,
    )
    assert [str(c) for c in changes.made] == [
        "a (from Add_1): add joins the epilogue of 'conv1'",
        "y (from Relu_2): relu joins the epilogue of 'conv1'",
    ]


@pytest.mark.parametrize(
    ("call", "step"),
    [
        ("sub(%c, %r)", "sub(., %r)"),
        ("sub(%r, %c)", "sub(%r, .)"),
        ("div(%r, %c)", "div(%r, .)"),
        ("mul(%r, %c)", "mul(., %r)"),
        ("max(%r, %c)", "max(., %r)"),
        ("prelu(%c, %r)", "prelu(., %r)"),
        ("clip(%c) {min=0.0, max=6.0}", "clip(.) {min=0.0, max=6.0}"),
        ("leaky_relu(%c) {alpha=0.5}", "leaky_relu(.) {alpha=0.5}"),
        ("sigmoid(%c)", "sigmoid(.)"),
    ],
)
def test_steps(call, step):
    check_pass(
        FuseEpilogues(),
        f"{HEAD}\n%c : {T} = conv(%x, %w) {CONV}\n%y : {T} = {call}\noutput %y",
        f'{HEAD}\n%c : {T} = conv(%x, %w) {CONV} | {step}\noutput %c as "y"',
        exact=True,
    )


def test_the_convolution_computed_last_takes_the_sum():
    check_pass(
        FuseEpilogues(),
        f"""
        {HEAD}
        %a : {T} = conv(%x, %w) {CONV}
        %b : {T} = conv(%r, %v) {CONV}
        %y : {T} = add(%b, %a)
        %z : {T} = relu(%y)
        output %z
        """,
        f"""
        {HEAD}
        %a : {T} = conv(%x, %w) {CONV}
        %b : {T} = conv(%r, %v) {CONV} | add(., %a) | relu(.)
        output %b as "z"
        """,
        exact=True,
    )


def test_a_kernel_is_preferred_and_moves_behind_its_operand():
    """%a waits for the chain of elementwise nodes, which nothing but the sum needs."""
    check_pass(
        FuseEpilogues(),
        f"""
        {HEAD}
        %a : {T} = conv(%x, %w) {CONV}
        %b : {T} = exp(%r)
        %c : {T} = neg(%b)
        %y : {T} = sub(%c, %a)
        output %y
        """,
        f"""
        {HEAD}
        %b : {T} = exp(%r) | neg(.)
        %a : {T} = conv(%x, %w) {CONV} | sub(%b, .)
        output %a as "y"
        """,
        exact=True,
    )


def test_an_operand_that_is_computed_later_comes_first():
    """The other operand depends on a softmax, which no step can join: the fused node stands after it."""
    check_pass(
        FuseEpilogues(),
        f"""
        {HEAD}
        %a : {T} = conv(%x, %w) {CONV}
        %p : {T} = softmax(%r) {{axis=1}}
        %y : {T} = add(%a, %p)
        %q : {T} = softmax(%y) {{axis=1}}
        output %q
        """,
        f"""
        {HEAD}
        %p : {T} = softmax(%r) {{axis=1}}
        %a : {T} = conv(%x, %w) {CONV} | add(., %p)
        %q : {T} = softmax(%a) {{axis=1}}
        output %q
        """,
        exact=True,
    )


def test_elementwise_chain_becomes_one_node_with_constants_of_full_rank():
    check_pass(
        FuseEpilogues(),
        f"""
        input %x : {T}
        const %s : float32[2,1,1] = [2.0, 3.0]
        const %t : float32[] = [1.0]
        %m : {T} = mul(%x, %s) name "bn" from "Bn_0"
        %a : {T} = sub(%t, %m) from "Bn_0"
        %y : {T} = relu(%a) from "Relu_1"
        output %y
        """,
        f"""
        input %x : {T}
        const %s : float32[2,1,1] = [2.0, 3.0]
        const %t : float32[1,1,1,1] = [1.0]
        %m : {T} = mul(%x, %s) | sub(%t, .) | relu(.) name "bn" from "Bn_0", "Relu_1"
        output %m as "y"
        """,
        exact=True,
    )


def test_a_constant_with_other_readers_keeps_its_shape_for_them():
    check_pass(
        FuseEpilogues(),
        f"""
        {HEAD}
        const %s : float32[2,1,1] = [2.0, 3.0]
        %c : {T} = conv(%x, %w) {CONV}
        %y : {T} = mul(%c, %s)
        %z : {T} = mul(%r, %s)
        output %y
        output %z
        """,
        f"""
        {HEAD}
        const %s : float32[2,1,1] = [2.0, 3.0]
        const %s.1 : float32[1,2,1,1] = [2.0, 3.0]
        %c : {T} = conv(%x, %w) {CONV} | mul(., %s.1)
        %z : {T} = mul(%r, %s)
        output %c as "y"
        output %z
        """,
        exact=True,
    )


@pytest.mark.parametrize("op", sorted(name for name, op in REGISTRY.items() if op.ends_in_epilogue))
def test_every_kernel_takes_a_step(op):
    """On the operator's own cases: a tanh behind it joins it, and the results stay the same."""
    found = [case for case in cases(op) if case.graph().outputs[0].type.dtype == "float32"]
    assert found
    for case in found[:3]:
        graph, reference = case.graph(), case.graph()
        for g in (graph, reference):
            g.set_outputs([g.add("tanh", [g.outputs[0]]).output])
        assert FuseEpilogues().run(graph)
        verify(graph)
        assert [(n.op, [s.op for s in n.epilogue]) for n in graph.nodes] == [(op, ["tanh"])]
        check_same_results(reference, graph, 0.0)


def test_a_node_with_steps_brings_them_along():
    check_pass(
        FuseEpilogues(),
        f"""
        {HEAD}
        %c : {T} = conv(%x, %w) {CONV} | relu(.)
        %y : {T} = sub(%r, %c) | mul(., %x) | exp(.)
        output %y
        """,
        f"""
        {HEAD}
        %c : {T} = conv(%x, %w) {CONV} | relu(.) | sub(%r, .) | mul(., %x) | exp(.)
        output %c as "y"
        """,
        exact=True,
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            f"%c : {T} = conv(%x, %w) {CONV}\n%y : {T} = relu(%c)\noutput %c",
            "relu does not join 'c': %c is also returned",
        ),
        (
            f"%c : {T} = conv(%x, %w) {CONV}\n%y : {T} = relu(%c)\n%z : {T} = max_pool(%c) "
            "{kernel=(1, 1), strides=(1, 1), dilations=(1, 1), pads=((0, 0), (0, 0))}\noutput %z",
            "relu does not join 'c': %c has 2 readers",
        ),
        (f"%c : {T} = conv(%x, %w) {CONV}\n%y : {T} = mul(%c, %c)", "it uses %c more than once"),
        (
            f"input %b : float32[5,1,1,1,1]\n%c : {T} = conv(%x, %w) {CONV}\n"
            "%y : float32[5,1,2,3,3] = add(%c, %b)",
            r"it turns shape \(1, 2, 3, 3\) into \(5, 1, 2, 3, 3\)",
        ),
        (
            f"%c : {T} = conv(%x, %w) {CONV}\n%y : bool[1,2,3,3] = greater(%c, %r)",
            "it computes with bool, float32",
        ),
        (
            f"%c : {T} = conv(%x, %w) {CONV}\n%y : int32[1,2,3,3] = cast(%c) {{dtype='int32'}}",
            "computes with float32, int32",
        ),
        (
            f"input %k : bool[1,2,3,3]\n%c : {T} = conv(%x, %w) {CONV}\n%y : {T} = where(%k, %c, %r)",
            "where has 3 operands",
        ),
        (
            "%c : float64[1,2,3,3] = cast(%x) {dtype='float64'}\n%y : float64[1,2,3,3] = exp(%c)",
            "computes with float64",
        ),
    ],
)
def test_refusals(body, reason):
    check_refused(FuseEpilogues(), f"{HEAD}\n{body}\noutput %y", reason)


def test_other_producers_take_no_steps():
    check_untouched(
        FuseEpilogues(),
        f"""
        {HEAD}
        %c : float32[1,4,3,3] = concat(%x, %r) {{axis=1}}
        %y : float32[1,4,3,3] = relu(%c)
        output %y
        """,
    )


def test_padding_does_not_matter():
    graph = graph_of(
        f"{HEAD}\n%c : float32[1,2,5,5] = conv(%x, %w) {PADDED}\n%y : float32[1,2,5,5] = abs(%c)\noutput %y"
    )
    assert FuseEpilogues().run(graph)
    assert len(graph.nodes) == 1

"""Max pooling joins the convolution before it where that is predicted to pay."""

from __future__ import annotations

import re

import numpy as np
import pytest
from engines import run_onnxruntime
from pass_checks import check_pass, check_refused, check_untouched, graph_of

import convc
from convc.compilation import plan
from convc.compiler import Options, build_probe
from convc.frontends.builder import Network
from convc.ir import Graph
from convc.passes.fuse_max_pool import FuseMaxPool
from convc.plan.select import Selector
from convc.progress import Progress
from convc.verify import random_inputs
from convc.workload import Workload

ALWAYS = FuseMaxPool(lambda workload, weights: 1.0)
"""Where every kernel takes a second, one is faster than two."""


def of_a_second(selector: Selector, workload: Workload, weights: object) -> float:
    """The price of every kernel, for a selector."""
    return 1.0


WINDOW = "strides=(1, 1), dilations=(1, 1), pads=((1, 0), (0, 0))"
POOLED = f"{{{WINDOW}, pool=(2, 2)}}"
POOL = "{kernel=(2, 2), strides=(2, 2), dilations=(1, 1), pads=((0, 0), (0, 0))}"
HEAD = """
    input %x : float32[2,2,5,4]
    input %r : float32[2,2,2,2]
    input %s : float32[2,2,5,4]
    const %w : float32[2,2,2,1] = [1.0, 2.0, -5.0, 6.0, -1.0, -2.0, 0.5, 0.25]
    const %b : float32[2] = [-1.0, 2.0]
"""
PAIR = f"""{HEAD}
    %c : float32[2,2,5,4] = conv(%x, %w, %b) {{{WINDOW}}} | relu(.) from "C", "R"
    %p : float32[2,2,2,2] = max_pool(%c) {POOL} from "P"
    output %p as "y"
"""


def test_activations_follow_the_maximum():
    changes = check_pass(
        ALWAYS,
        PAIR,
        f"""{HEAD.strip()}
        %c.1 : float32[2,2,2,2] = conv_max_pool(%x, %w, %b) {POOLED} | relu(.) name "c" from "C", "R", "P"
        output %c.1 as "y"
        """,
        exact=True,
    )
    assert changes.made[0].text == "joins 'c', saving 1.0e+00 s"


def test_steps_of_the_pool_come_last():
    check_pass(
        ALWAYS,
        f"""{HEAD}
        %c : float32[2,2,5,4] = conv(%x, %w) {{{WINDOW}}} | tanh(.)
        %p : float32[2,2,2,2] = max_pool(%c) {POOL} | sub(%r, .) | abs(.)
        output %p
        """,
        f"""{HEAD.strip()}
        %c.1 : float32[2,2,2,2] = conv_max_pool(%x, %w) {POOLED} | tanh(.) | sub(%r, .) | abs(.) name "c"
        output %c.1 as "p"
        """,
        exact=True,
    )


@pytest.mark.parametrize(
    "step",
    [
        "leaky_relu(.) {alpha=0.1}", "elu(.) {alpha=1.0}", "celu(.) {alpha=2.0}", "sigmoid(.)", "softsign(.)",
        "selu(.) {alpha=1.5, gamma=1.25}", "hard_sigmoid(.) {alpha=0.25, beta=0.5}", "softplus(.)",
    ],
)  # fmt: skip
def test_non_decreasing_activations(step):
    graph = graph_of(PAIR.replace("relu(.)", step))
    assert ALWAYS.run(graph)
    (node,) = graph.nodes
    assert [s.op for s in node.epilogue] == [step.split("(")[0]]


SIDE_BY_SIDE = "(2, 2), strides=(2, 2), dilations=(1, 1), pads=((0, 0), (0, 0))"
REFUSED = {
    r"\(3, 2\) with strides \(2, 2\) do not": (SIDE_BY_SIDE, SIDE_BY_SIDE.replace("(2, 2),", "(3, 2),", 1)),
    r"pads .* and dilations \(1, 2\)": (SIDE_BY_SIDE, SIDE_BY_SIDE.replace("(1, 1)", "(1, 2)")),
    r"pads \(\(0, 1\), \(0, 0\)\) and dil": (SIDE_BY_SIDE, SIDE_BY_SIDE.replace("((0, 0)", "((0, 1)")),
    "partial windows at its end count": (SIDE_BY_SIDE, f"{SIDE_BY_SIDE}, ceil_mode=True"),
    "%c is also returned": ("output %p", "output %c\n output %p"),
    "%c has 2 readers": ("output %p", "%q : float32[2,2,5,4] = abs(%c)\n output %q\n output %p"),
    "add has an operand": ("relu(.)", "add(., %s)"),
    "gelu may decrease": ("relu(.)", 'gelu(.) {approximate="tanh"}'),
    "swish may decrease": ("relu(.)", "swish(.)"),
    "leaky_relu may decrease": ("relu(.)", "leaky_relu(.) {alpha=-0.5}"),
}
EXTENTS = {"dilations \\(1, 2\\)": "2,1", "(0, 1\\)": "3,2", "partial": "3,2"}


@pytest.mark.parametrize("reason", REFUSED)
def test_refusals(reason):
    before, after = REFUSED[reason]
    assert before in PAIR
    extents = next((e for part, e in EXTENTS.items() if part in reason), "2,2")
    check_refused(
        ALWAYS,
        PAIR.replace(before, after).replace("%p : float32[2,2,2,2]", f"%p : float32[2,2,{extents}]"),
        reason,
    )


def test_other_producers_and_other_pools_are_none_of_its_business():
    check_untouched(ALWAYS, PAIR.replace("max_pool", "average_pool"))
    check_untouched(
        ALWAYS, f"input %x : float32[1,2,4,4]\n %p : float32[1,2,2,2] = max_pool(%x) {POOL}\n output %p"
    )


def test_nothing_to_save():
    """A price that does not fall is no reason to join."""

    def price(workload: Workload, weights: object) -> float:
        return 5.0 if workload.op == "conv_max_pool" else 2.5

    reason = "it does not join 'c': together they would take 0.0e+00 s longer"
    check_refused(FuseMaxPool(price), PAIR, re.escape(reason))


def test_layers_with_an_algorithm_of_the_users_choice_stay():
    for name in ("c", "C", "R", "p", "P"):
        check_refused(FuseMaxPool(ALWAYS.price, frozenset({name})), PAIR, f"was asked for '{name}'")


def network() -> Graph:
    """Three convolutions that are pooled: by 2 of an odd map, by 3, and by 2 beside another reader."""
    net = Network("pooled", seed=3)
    x = net.input("x", (2, 3, 31, 45))
    y = net.max_pool(net.relu(net.conv(x, 24, 3, padding=1, name="a")), 2)
    y = net.max_pool(net.tanh(net.conv(y, 40, 3, padding=1, name="b")), 3)
    z = net.relu(net.conv(y, 17, 3, padding=1, name="c"))
    net.output(net.max_pool(z, 2))
    net.output(z)
    return net.graph


@pytest.mark.parametrize("target", ["host", "haswell"])
def test_compiled_networks_are_right(target, monkeypatch):
    monkeypatch.setattr(Selector, "price", of_a_second)
    module = convc.compile(network(), target=target, threads=2)  # verifies
    assert [p.op for p in module.plan if p.op.startswith("conv")] == [
        "conv_max_pool",
        "conv_max_pool",
        "conv",
    ]
    assert all(p.flops > 0 for p in module.plan if p.op == "conv_max_pool")
    feeds = random_inputs(network())
    for ours, theirs in zip(module.run(None, feeds), run_onnxruntime(network(), feeds), strict=True):
        # sums of 360 products of F(4, 3), whose errors stay below the 1e-4 that selection allows
        assert abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


def test_layers_can_be_looked_at(monkeypatch):
    monkeypatch.setattr(Selector, "price", of_a_second)
    """A probe returns what is between the layers too, and so leaves them apart."""
    compilation = plan(network(), Options(threads=2), Progress())
    probe, graph = build_probe(compilation, Progress())
    assert sum(node.op == "max_pool" for node in graph.nodes) == 3
    assert len(probe.run(None, random_inputs(compilation.source))) == len(graph.nodes)


def test_a_layer_can_be_kept_apart(monkeypatch):
    monkeypatch.setattr(Selector, "price", of_a_second)
    compilation = plan(network(), Options(threads=2, algorithms={"a": "direct"}), Progress())
    assert [n.op for n in compilation.graph.nodes if n.op.startswith("conv")] == [
        "conv",
        "conv_max_pool",
        "conv",
    ]


def test_fallback_follows_the_accuracy_that_is_asked_for(monkeypatch):
    """Winograd is too inaccurate for 1e-7; the direct kernel pools, too."""
    monkeypatch.setattr(Selector, "price", of_a_second)
    compilation = plan(network(), Options(threads=2, max_error=1e-7), Progress())
    joined = [c.lowering.name for n, c in compilation.choices.items() if n.op == "conv_max_pool"]
    assert joined == ["direct", "direct"]

"""A depthwise and a 1x1 convolution become one node where that is predicted to pay."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from pass_checks import CONV, check_same_results, graph_of, text_of

import convc
from convc.compilation import plan
from convc.compiler import Options, build_probe
from convc.frontends.builder import Network
from convc.ir import Graph, verify
from convc.passes.base import Changes
from convc.passes.fuse_separable import FuseSeparable
from convc.progress import Progress
from convc.target import Target
from convc.verify import random_inputs

SLOW = Target(
    name="test", triple="x86_64-linux-gnu", mcpu="znver4", isa="avx512", lanes=16, registers=32, features=(),
    threads=2, l2_bandwidth=1e6,
)  # fmt: skip
"""Where what is stored and read again takes long, every pair pays."""

MANY = replace(SLOW, threads=16, l2_bandwidth=1e11)

WINDOW = "strides=(1, 2), dilations=(1, 1), pads=((1, 1), (0, 1))"
DEPTHWISE = f"{{{WINDOW}, groups=2}}"
HEAD = """
    input %x : float32[1,2,4,5]
    input %r : float32[1,2,4,3]
    const %w : float32[2,1,3,2] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -1.0, -2.0, -3.0, 4.0, 0.5, 0.25]
    const %v : float32[2,2,1,1] = [1.0, -2.0, 0.5, 0.25]
    const %b : float32[2] = [1.0, 2.0]
"""
PAIR = f"""{HEAD}
    %d : float32[1,2,4,3] = conv(%x, %w, %b) {DEPTHWISE} | clip(.) {{min=0.0, max=6.0}} from "D", "C"
    %p : float32[1,2,4,3] = conv(%d, %v) {CONV} | sub(%r, .) | relu(.) from "P"
    output %p
"""


def fused(text: str, **options: frozenset[str]) -> tuple[Graph, Changes]:
    """The graph after the pass, which computes the same."""
    graph, before = graph_of(text), graph_of(text)
    changes = FuseSeparable(SLOW, **options).run(graph)
    verify(graph)
    check_same_results(before, graph, float(np.finfo(np.float64).eps))
    return graph, changes


def test_depthwise_first():
    graph, changes = fused(PAIR)
    assert text_of(graph).splitlines()[5:] == [
        f"%p.1 : float32[1,2,4,3] = depthwise_pointwise(%x, %w, %v, %b, _) {{{WINDOW}, "
        "between=(('clip', (0.0, 6.0)),)} | sub(%r, .) | relu(.) "
        'name "p" from "D", "C", "P"',
        'output %p.1 as "p"',
    ]
    assert re.search("joins 'd' as depthwise_pointwise, saving", changes.made[0].text)


def test_pointwise_first():
    graph, _ = fused(f"""{HEAD}
    %p : float32[1,2,4,5] = conv(%x, %v, %b) {CONV} | hard_swish(.) | relu(.)
    %d : float32[1,2,4,3] = conv(%p, %w) {DEPTHWISE} | add(., %r)
    output %d
    """)
    (node,) = graph.nodes
    assert (node.op, node.name) == ("pointwise_depthwise", "d")
    assert node.attrs.between == (("hard_swish", ()), ("relu", ()))


def test_the_pair_that_saves_more_goes_first():
    """An inverted residual: the wide tensor before the depthwise convolution is four times that after it."""
    net = Network("inverted")
    x = net.conv(net.input("x", (1, 16, 56, 56)), 96, 1, name="expand")
    x = net.conv(x, 96, 3, stride=2, padding=1, groups=96, name="depthwise")
    net.output(net.conv(x, 24, 1, name="project"))
    FuseSeparable(SLOW).run(net.graph)
    assert [(n.name, n.op) for n in net.graph.nodes] == [
        ("depthwise", "pointwise_depthwise"),
        ("project", "conv"),
    ]


def test_nothing_to_save():
    """Two rows are work for two threads, where the 1x1 convolution alone has 32 blocks of channels."""
    net = Network("small_map")
    x = net.conv(net.input("x", (1, 512, 2, 2)), 512, 3, padding=1, groups=512, name="d")
    net.output(net.conv(x, 512, 1, name="p"))
    changes = FuseSeparable(MANY).run(net.graph)
    assert not changes
    assert re.search("joined with 'd' it would take .* s longer", changes.refused[0].text)


def test_layers_with_an_algorithm_of_the_users_choice_stay():
    for name in ("d", "C", "P"):
        graph, changes = fused(PAIR, keep=frozenset({name}))
        assert len(graph.nodes) == 2
        assert f"an algorithm was asked for '{name}'" in changes.refused[0].text


VARIABLE = "input %v : float32[2,2,1,1]"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("output %p", "output %p\n output %d"), "%d is also returned"),
        (("output %p", "%q : float32[1,2,4,3] = relu(%d)\n output %p\n output %q"), "%d has 2 readers"),
        (("| clip(.) {min=0.0, max=6.0}", "| exp(.)"), "exp stands between them"),
        (("| clip(.) {min=0.0, max=6.0}", "| add(., %r)"), "add stands between them"),
        (
            ("const %v : float32[2,2,1,1] = [1.0, -2.0, 0.5, 0.25]", "input %v : float32[2,2,1,1]"),
            "'p' are not constant",
        ),
    ],
)
def test_refusals(change, reason):
    assert change[0] in PAIR
    _, changes = fused(PAIR.replace(*change))
    assert not changes
    assert any(reason in c.text for c in changes.refused), changes


def test_float64_is_left_alone():
    _, changes = fused(PAIR.replace("float32", "float64"))
    assert "computes with float64" in changes.refused[0].text


def test_windows_of_padding_only_are_refused():
    _, changes = fused(PAIR.replace("pads=((1, 1), (0, 1))", "pads=((3, 0), (0, 2))").replace("4,3]", "5,3]"))
    assert "see nothing but the pads" in changes.refused[0].text


def network() -> Graph:
    """A stem, then two inverted residuals."""
    net = Network("blocks")
    x = net.relu(net.conv(net.input("x", (1, 3, 33, 33)), 24, 3, padding=1, name="stem"))
    for name in "ab":
        y = net.relu(net.conv(x, 144, 1, name=f"{name}.expand"))
        y = net.relu(net.conv(y, 144, 3, padding=1, groups=144, name=f"{name}.depthwise"))
        x = net.add(net.conv(y, 24, 1, name=f"{name}.project"), x)
    net.output(x)
    return net.graph


def test_compiled_networks_are_right_and_layers_can_be_looked_at(monkeypatch):
    """Verification passes; a probe returns what is between the layers too, and so leaves them apart."""
    slow = {"l2_bandwidth": 1e6, "l3_bandwidth": 1e6, "memory_bandwidth": 1e6}
    monkeypatch.setattr("convc.compilation.calibrated", lambda target, progress: replace(target, **slow))
    module = convc.compile(network(), threads=2)
    joined = [p for p in module.plan if p.chosen == "separable"]
    assert len(joined) == 2
    assert all(p.flops > 0 and p.config["rows"] > 0 for p in joined)
    compilation = plan(network(), Options(threads=2), Progress())
    probe, graph = build_probe(compilation, Progress())
    assert {"a.expand", "a.depthwise"} <= {node.name for node in graph.nodes}
    found = probe.run(None, random_inputs(compilation.source))
    assert len(found) == sum(len(node.outputs) for node in graph.nodes)

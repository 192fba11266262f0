"""Sibling pointwise convolutions merged into one and a split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from interpreter import simulate
from pass_checks import CONV, check_pass, check_refused, check_untouched

from convc.compilation import plan
from convc.compiler import Options
from convc.evaluate import evaluate
from convc.frontends.builder import Network
from convc.passes.merge_siblings import MergeSiblings, SiblingsToSplit
from convc.plan.program import Run
from convc.progress import Progress
from convc.verify import compare, random_inputs


@dataclass(frozen=True)
class MergePairs(MergeSiblings):
    """For blocks of two channels."""

    rules = (SiblingsToSplit(block=2),)


HEAD = """
input %x : float32[1,1,3,3]
const %a : float32[2,1,1,1] = [1.0, 2.0]
const %b : float32[4,1,1,1] = [1.0, -2.0, 3.0, -4.0]
const %c : float32[5,1,1,1] = [0.5, -1.0, 4.0, 6.0, 7.0]
const %p : float32[4] = [1.0, 2.0, 3.0, 4.0]
const %k : float32[1,2,1,3] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
""".strip()
SHAPES = {"a": "1,2,3,3", "b": "1,4,3,3", "c": "1,5,3,3"}


def _conv(name: str, bias: str = "", steps: str = "", attrs: str = CONV) -> str:
    return (
        f'%v{name} : float32[{SHAPES[name]}] = conv(%x, %{name}{bias}) {attrs}{steps} from "{name.upper()}"'
    )


def _reader(name: str, value: str) -> str:
    return f"%y{name} : float32[{SHAPES[name]}] = tanh(%{value})"


def test_three_siblings_the_ragged_one_last():
    """Only one of them has a bias."""
    check_pass(
        MergePairs(),
        f"""{HEAD}
        {_conv("c", steps=" | relu(.)")}
        {_reader("c", "vc")}
        {_conv("a", steps=" | relu(.)")}
        {_conv("b", bias=", %p", steps=" | relu(.)")}
        {_reader("b", "vb")}
        {_reader("a", "va")}
        output %ya
        output %yb
        output %yc
        """,
        f"""{HEAD}
        const %va.weights : float32[11,1,1,1] = [1.0, 2.0, 1.0, -2.0, 3.0, -4.0, 0.5, -1.0, 4.0, 6.0, 7.0]
        const %va.bias : float32[11] = [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        %conv : float32[1,11,3,3] = conv(%x, %va.weights, %va.bias) {CONV} | relu(.) \
name "va" from "A", "B", "C"
        %split : float32[1,2,3,3], %split:1 : float32[1,4,3,3], %split:2 : float32[1,5,3,3] = split(%conv) \
{{axis=1, sizes=(2, 4, 5)}} name "va.split"
        {_reader("c", "split:2")}
        {_reader("b", "split:1")}
        {_reader("a", "split")}
        output %ya
        output %yb
        output %yc
        """,
    )


ENDS = f"{_reader('a', 'va')}\n{_reader('b', 'vb')}\noutput %ya\noutput %yb"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"{_conv('a')}\n{_conv('b')}\n{_reader('a', 'va')}\noutput %ya\noutput %vb", "'vb' is returned"),
        (
            f"{_conv('a')}\n{_conv('b')}\n%y : float32[1,6,3,3] = concat(%va, %vb) {{axis=1}}\noutput %y",
            "'va' is read by concat; 'vb' is read by concat",
        ),
        (
            f"{_conv('a')}\n{_conv('b', bias=', %q')}\n{ENDS}",
            "'vb' has weights or a bias that are computed at run time",
        ),
        (
            f"{_conv('c')}\n{_conv('c').replace('%vc', '%vd')}\n{_reader('c', 'vc')}\n"
            f"{_reader('c', 'vd').replace('%yc', '%yd')}\noutput %yc\noutput %yd",
            "the channels of its siblings do not fill blocks of 2",
        ),
    ],
)
def test_refusals(body, reason):
    head = HEAD + ("\ninput %q : float32[4]\n" if "%q" in body else "\n")
    check_refused(MergePairs(), head + body, reason)


@pytest.mark.parametrize(
    ("channels", "reason"),
    [((4, 10), "14 channels are 7 blocks"), ((6, 6), "all of its siblings, with 6 channels or more")],
)
def test_siblings_that_gain_nothing_stay(channels, reason):
    net = Network("siblings")
    x = net.input("x", (1, 2, 3, 3))
    for count in channels:
        net.output(net.tanh(net.conv(x, count, 1)))
    rule = SiblingsToSplit(block=2)
    first = next(n for n in net.graph.nodes if n.op == "conv")
    found = rule.match(net.graph, first)
    assert reason in rule.check(net.graph, first, found)


def test_operands_of_the_epilogue_are_refused():
    first = _conv("a", steps=" | add(., %r)")
    ends = f"{_reader('a', 'va')}\n{_reader('a', 'vb').replace('%ya', '%yb')}\noutput %ya\noutput %yb"
    check_refused(
        MergePairs(),
        f"{HEAD}\ninput %r : float32[1,2,3,3]\n{first}\n{first.replace('%va', '%vb')}\n{ends}",
        "'va' has operands in its epilogue",
    )


@pytest.mark.parametrize(
    "other",
    [
        _conv("b", steps=" | relu(.)"),
        _conv("b").replace("conv(%x", "conv(%z"),
        "%vb : float32[1,4,3,3] = add(%x, %m)",
    ],
)  # fmt: skip
def test_different_siblings_stay(other):
    more = "\ninput %z : float32[1,1,3,3]\nconst %m : float32[1,4,1,1] = [1.0, 2.0, 3.0, 4.0]\n"
    check_untouched(MergePairs(), f"{HEAD}{more}{_conv('a')}\n{other}\n{ENDS}")


def test_a_padded_reader_and_one_without_stay_apart():
    window = "{strides=(1, 1), dilations=(1, 1), pads=((0, 0), (1, 1))}"
    check_untouched(
        MergePairs(),
        f"{HEAD}\n{_conv('a')}\n{_conv('b')}\n%y : float32[1,1,3,3] = conv(%va, %k) {window}\n"
        f"{_reader('b', 'vb')}\noutput %y\noutput %yb",
    )


def _inception(batch: int, sizes: tuple[int, ...]) -> Network:
    """Branches that reduce channels and then look at windows of 3 and 5; the last one lies in the result."""
    net = Network("inception", seed=5)
    x = net.input("x", (batch, 32, 9, 10))
    parts = [
        net.relu(net.conv(net.relu(net.conv(x, size, 1)), 16, kernel, padding=kernel // 2))
        for size, kernel in zip(sizes, (3, 5, 3), strict=False)
    ]
    net.output(net.concat([*parts, net.relu(net.conv(x, 16, 1))], axis=1))
    return net


@pytest.mark.parametrize("target", ["host", "haswell"])
@pytest.mark.parametrize(("batch", "sizes"), [(1, (32, 16)), (2, (32, 24)), (1, (16, 5, 32))])
def test_pieces_are_views(batch, sizes, target):
    """Borders of different width around the pieces, and no step but the convolutions and two copies."""
    net = _inception(batch, sizes)
    compilation = plan(net.graph, Options(target, 2), Progress())
    steps = [s.node.op for s in compilation.program.steps if isinstance(s, Run)]
    kernels = 1 + len(sizes) + 1  # merged, windows, and the branch of its own
    assert steps.count("conv") == kernels
    assert set(steps) == {"conv", "relayout"}
    assert steps.count("relayout") == 2
    feeds = random_inputs(net.graph)
    errors = compare(simulate(compilation, feeds), evaluate(net.graph, feeds))
    assert max(errors) <= float(np.finfo(np.float32).eps) * 4 * len(net.graph.nodes)

"""Maps by channel, and activations, moved up through what lets them through."""

from __future__ import annotations

import pytest
from pass_checks import CONV, check_pass, check_refused

from convc.passes.hoist_activations import HoistActivations
from convc.passes.hoist_affine import HoistAffine

LAYER = """
const %w : float32[2,1,1,1] = [1.0, -2.0]
const %b : float32[2] = [3.0, 4.0]
""".strip()
HEAD = """
input %x : float32[1,1,4,4]
const %s : float32[2,1,1] = [2.0, 0.5]
const %n : float32[2,1,1] = [2.0, -0.5]
const %f : float32[1,4,1,1] = [2.0, 3.0, 4.0, -5.0]
const %e : float32[2] = [3.0, 4.0]
const %g : float32[2] = [8.0, 6.0]
const %m : float32[2] = [1.0, 2.0]
const %v : float32[2] = [4.0, 9.0]
""".strip()
T = "float32[1,2,4,4]"
MAP = "batch_norm(%r, %g, %e, %m, %v) {epsilon=0.0}"  # 4 x - 1 and 2 x
POOL = "{kernel=(2, 2), strides=(2, 2), dilations=(1, 1), pads=((0, 0), (0, 0))}"
PADS = "{kernel=(3, 3), strides=(1, 1), dilations=(1, 1), pads=((1, 1), (1, 1))"


@pytest.mark.parametrize(
    "through",
    [
        "%r : float32[1,2,4,4] = relu(%c)",
        "%r : float32[1,2,4,4] = leaky_relu(%c) {alpha=0.25}",
        f"%p : float32[1,2,4,4] = relu(%c)\n%r : float32[1,2,2,2] = max_pool(%p) {POOL}",
        f"%p : float32[1,2,4,4] = average_pool(%c) {PADS}}}\n%r : float32[1,2,4,4] = relu(%p)",
        "%r : float32[1,2,1,1] = reduce_mean(%c) {axes=(-1, 2)}",
    ],
)
def test_factors(through):
    shape = through.rsplit("float32", 1)[1].split("]")[0] + "]"
    check_pass(
        HoistAffine(),
        f"""{HEAD}
        {LAYER}
        %c : {T} = conv(%x, %w, %b) {CONV} from "C"
        {through}
        %y : float32{shape} = mul(%s, %r) from "M"
        output %y
        """,
        f"""{HEAD}
        const %w : float32[2,1,1,1] = [2.0, -1.0]
        const %b : float32[2] = [6.0, 2.0]
        %c : {T} = conv(%x, %w, %b) {CONV} from "C", "M"
        {through}
        output %r as "y"
        """,
    )


@pytest.mark.parametrize(
    "through",
    [
        f"max_pool(%c) {PADS}}}",
        f"average_pool(%c) {PADS}}}",
        f"average_pool(%c) {POOL[:-1]}, count_include_pad=True}}",
    ],
)
def test_factors_and_summands(through):
    shape = "float32[1,2,2,2]" if POOL[:-1] in through else T
    check_pass(
        HoistAffine(),
        f"""{HEAD}
        {LAYER}
        %c : {T} = conv(%x, %w, %b) {CONV}
        %r : {shape} = {through}
        %y : {shape} = {MAP}
        output %y
        """,
        f"""{HEAD}
        const %w : float32[2,1,1,1] = [4.0, -4.0]
        const %b : float32[2] = [11.0, 8.0]
        %c : {T} = conv(%x, %w, %b) {CONV}
        %r : {shape} = {through}
        output %r as "y"
        """,
    )


def test_relu_lets_the_factors_through_and_not_the_summands():
    check_pass(
        HoistAffine(),
        f"""{HEAD}
        {LAYER}
        %c : {T} = conv(%x, %w, %b) {CONV}
        %r : {T} = relu(%c)
        %y : {T} = {MAP}
        output %y
        """,
        f"""{HEAD}
        const %w : float32[2,1,1,1] = [4.0, -4.0]
        const %b : float32[2] = [12.0, 8.0]
        const %y.shift : float32[1,2,1,1] = [-1.0, 0.0]
        %c : {T} = conv(%x, %w, %b) {CONV}
        %r : {T} = relu(%c)
        %y : {T} = add(%r, %y.shift)
        output %y
        """,
    )


def test_concatenation_gives_each_part_its_channels():
    check_pass(
        HoistAffine(),
        f"""{HEAD}
        {LAYER}
        const %u : float32[2,1,1,1] = [1.0, 7.0]
        %c : {T} = conv(%x, %w, %b) {CONV}
        %d : {T} = conv(%x, %u) {CONV}
        %r : float32[1,4,4,4] = concat(%c, %d) {{axis=-3}}
        %y : float32[1,4,4,4] = mul(%r, %f)
        output %y
        """,
        f"""{HEAD}
        const %w : float32[2,1,1,1] = [2.0, -6.0]
        const %b : float32[2] = [6.0, 12.0]
        const %u : float32[2,1,1,1] = [4.0, -35.0]
        %c : {T} = conv(%x, %w, %b) {CONV}
        %d : {T} = conv(%x, %u) {CONV}
        %r : float32[1,4,4,4] = concat(%c, %d) {{axis=-3}}
        output %r as "y"
        """,
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"%r : {T} = relu(%c)\n%y : {T} = mul(%r, %n)", r"a negative factor does not pass 'r' \(relu\)"),
        (f"%r : {T} = relu(%c)\n%y : {T} = add(%r, %n)", r"a shift does not pass 'r' \(relu\)"),
        (f"%r : {T} = relu(%c)\n%y : {T} = mul(%r, %s)\noutput %r", "the output of 'r' has other users"),
        (
            f"%t : {T} = tanh(%c)\n%r : {T} = relu(%t)\n%y : {T} = mul(%r, %s)",
            "'t' .tanh. does not let a map",
        ),
        (f"input %z : {T}\n%r : {T} = relu(%z)\n%y : {T} = mul(%r, %s)", "%z is no layer's output"),
        (
            f"%r : {T} = average_pool(%c) {PADS}, count_include_pad=True}}\n%y : {T} = add(%r, %s)",
            "a shift does not pass 'r' .average_pool.",
        ),
        (
            "%r : float32[1,1,4,4] = reduce_mean(%c) {axes=(1,)}\n%y : float32[1,1,4,4] = mul(%r, %o)",
            "'r' .reduce_mean. mixes samples or channels",
        ),
        (
            "%r : float32[1,4,4,4] = concat(%c, %c) {axis=1}\n%y : float32[1,4,4,4] = mul(%r, %f)",
            "the output of 'c' has other users",
        ),
        (
            f"%k : {T} = conv(%x, %w) {CONV} | relu(.)\n%r : {T} = relu(%k)\n%y : {T} = mul(%r, %s)",
            "'k' already has",
        ),
        (f"%r : {T} = relu(%c)\n%y : {T} = mul(%r, %i)", "its factors are not all finite"),
        (
            f"%k : {T} = conv(%x, %h) {CONV}\n%r : {T} = relu(%k)\n%y : {T} = mul(%r, %s)",
            "weights of 'k' are computed",
        ),
    ],
)
def test_refusals(body, reason):
    more = (
        "input %h : float32[2,1,1,1]\nconst %o : float32[1] = [2.0]\nconst %i : float32[2,1,1] = [1.0, inf]"
    )
    text = f"{HEAD}\n{more}\n{LAYER}\n%c : {T} = conv(%x, %w, %b) {CONV}\n{body}\noutput %y"
    check_refused(HoistAffine(), text, reason)


def test_activation_of_a_concatenation():
    check_pass(
        HoistActivations(),
        f"""{HEAD}
        {LAYER}
        %c : {T} = conv(%x, %w, %b) {CONV}
        %j : {T} = conv(%x, %w) {CONV}
        %d : {T} = add(%c, %j)
        %k : {T} = conv(%x, %w, %b) {CONV}
        %r : float32[1,4,4,4] = concat(%d, %k) {{axis=1}} from "K"
        %y : float32[1,4,4,4] = clip(%r) {{min=0.0, max=6.0}} from "R"
        output %y
        """,
        f"""{HEAD}
        {LAYER}
        %c : {T} = conv(%x, %w, %b) {CONV}
        %j : {T} = conv(%x, %w) {CONV}
        %d : {T} = add(%c, %j)
        %k : {T} = conv(%x, %w, %b) {CONV}
        %y.0 : {T} = clip(%d) {{min=0.0, max=6.0}} from "R"
        %y.1 : {T} = clip(%k) {{min=0.0, max=6.0}} from "R"
        %r : float32[1,4,4,4] = concat(%y.0, %y.1) {{axis=1}} from "K", "R"
        output %r as "y"
        """,
        exact=True,
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("%r : float32[1,4,4,4] = concat(%c, %c) {axis=1}", "the output of 'c' has other users"),
        ("%r : float32[1,3,4,4] = concat(%c, %x) {axis=1}", "%x is not made by a kernel that tanh"),
        (
            f"%k : {T} = conv(%x, %w) {CONV}\n%r : float32[1,4,4,4] = concat(%c, %k) {{axis=1}}\noutput %r",
            "the output of 'r' has other users",
        ),
        (
            f"input %z : {T}\n%k : {T} = identity(%z)\n%r : float32[1,4,4,4] = concat(%c, %k) {{axis=1}}",
            "%k is not made",
        ),
    ],
)
def test_refusals_of_activations(body, reason):
    shape = "float32[1,3,4,4]" if "1,3,4,4" in body else "float32[1,4,4,4]"
    text = f"{HEAD}\n{LAYER}\n%c : {T} = conv(%x, %w) {CONV}\n{body}\n%y : {shape} = tanh(%r)\noutput %y"
    check_refused(HoistActivations(), text, reason)

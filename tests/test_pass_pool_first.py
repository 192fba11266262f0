"""An average pool and the pointwise convolution before it change places."""

from __future__ import annotations

import pytest
from pass_checks import CONV, check_pass, check_refused, check_untouched

from convc.passes.pool_first import PoolFirst

WINDOW = "kernel=(2, 2), strides=(2, 2), dilations=(1, 1)"


@pytest.mark.parametrize(
    ("bias", "rest", "extent"),
    [
        ("%b", "pads=((0, 0), (0, 0))", 2),
        ("%b", "pads=((1, 0), (1, 0))", 2),
        ("%b", "pads=((0, 0), (0, 0)), ceil_mode=True", 3),
        ("_", "pads=((1, 0), (1, 0)), count_include_pad=True", 2),
    ],
)
def test_transition(bias, rest, extent):
    extent_in = 5 if "ceil_mode" in rest else 4
    head = f"""
        input %x : float32[2,4,{extent_in},{extent_in}]
        const %w : float32[2,4,1,1] = [1.0, -2.0, 3.0, -4.0, 5.0, 6.0, 7.0, 8.0]
        const %b : float32[2] = [1.0, 2.0]"""
    pool = f"{{{WINDOW}, {rest}}}"
    check_pass(
        PoolFirst(),
        f"""{head}
        %c : float32[2,2,{extent_in},{extent_in}] = conv(%x, %w, {bias}) {CONV} from "C"
        %p : float32[2,2,{extent},{extent}] = average_pool(%c) {pool} from "P"
        output %p as "y"
        """,
        f"""{head}
        %average_pool : float32[2,4,{extent},{extent}] = average_pool(%x) {pool} name "p" from "P"
        %conv : float32[2,2,{extent},{extent}] = conv(%average_pool, %w, {bias}) {CONV} name "c" from "C"
        output %conv as "y"
        """,
    )


def test_steps_of_the_pool_follow_the_convolution():
    check_pass(
        PoolFirst(),
        f"""
        input %x : float32[1,1,4,4]
        input %r : float32[1,1,2,2]
        const %w : float32[1,1,1,1] = [3.0]
        %c : float32[1,1,4,4] = conv(%x, %w, _) {CONV}
        %p : float32[1,1,2,2] = average_pool(%c) {{{WINDOW}, pads=((0, 0), (0, 0))}} | sub(%r, .) | relu(.)
        output %p
        """,
        f"""
        input %x : float32[1,1,4,4]
        input %r : float32[1,1,2,2]
        const %w : float32[1,1,1,1] = [3.0]
        %average_pool : float32[1,1,2,2] = average_pool(%x) {{{WINDOW}, pads=((0, 0), (0, 0))}} name "p"
        %conv : float32[1,1,2,2] = conv(%average_pool, %w, _) {CONV} | sub(%r, .) | relu(.) name "c"
        output %conv as "p"
        """,
    )


HEAD = """
input %x : float32[1,2,4,4]
const %w : float32[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
const %u : float32[1,2,1,1] = [1.0, 2.0]
const %b : float32[2] = [1.0, 2.0]
"""
POOL = f"average_pool(%c) {{{WINDOW}, pads=((0, 0), (0, 0))}}"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            f"%c : float32[1,2,4,4] = conv(%x, %w) {CONV} | relu(.)\n%y : float32[1,2,2,2] = {POOL}",
            "'c' has an epilogue",
        ),
        (
            f"%c : float32[1,2,4,4] = conv(%x, %w) {CONV}\n%y : float32[1,2,2,2] = {POOL}\noutput %c",
            "the output of 'c' has other users",
        ),
        (
            f"%c : float32[1,2,4,4] = conv(%x, %w, %b) {CONV}\n%y : float32[1,2,3,3] = average_pool(%c) "
            f"{{{WINDOW}, pads=((1, 1), (1, 1)), count_include_pad=True}}",
            "zeros of its padding count in the average, beside the bias of 'c'",
        ),
        (
            f"%c : float32[1,1,4,4] = conv(%x, %u) {CONV}\n%y : float32[1,1,4,4] = average_pool(%c) "
            "{kernel=(3, 3), strides=(1, 1), dilations=(1, 1), pads=((1, 1), (1, 1))}",
            "would save 0 products and cost 144 sums",
        ),
    ],
)
def test_refusals(body, reason):
    check_refused(PoolFirst(), f"{HEAD}{body}\noutput %y", reason)


@pytest.mark.parametrize(
    "conv",
    [
        "{strides=(2, 2), dilations=(1, 1), pads=((1, 2), (1, 2))}",
        "{strides=(1, 1), dilations=(1, 1), pads=((0, 0), (0, 0))} | relu(.)",
    ],
)
def test_other_convolutions_stay(conv):
    op = "max_pool" if "relu" in conv else "average_pool"
    check_untouched(
        PoolFirst(),
        f"""
        {HEAD}
        %c : float32[1,2,4,4] = conv(%x, %w) {conv}
        %y : float32[1,2,2,2] = {op}(%c) {{{WINDOW}, pads=((0, 0), (0, 0))}}
        output %y
        """,
    )

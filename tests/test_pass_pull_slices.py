"""Slices pulled into the convolution that they cut."""

from __future__ import annotations

import pytest
from pass_checks import CONV, PADDED, check_pass, check_refused, check_untouched

from convc.passes.pull_slices import PullSlices

REST = """
input %x : float32[1,1,7,7]
const %k : float32[1,1,3,3] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
""".strip()
HEAD = f"""{REST}
const %w : float32[4,1,1,1] = [1.0, 2.0, 3.0, 4.0]
const %b : float32[4] = [5.0, 6.0, 7.0, 8.0]
""".strip()


def _slice(start: str, stop: str, step: str) -> str:
    return f"{{starts=({start}), stops=({stop}), steps=({step})}}"


@pytest.mark.parametrize(
    ("extents", "cut", "strides", "pads"),
    [
        ("4,4", _slice("0, 0, 0, 0", "1, 1, 7, 7", "1, 1, 2, 2"), "2, 2", "(1, 1), (1, 1)"),
        ("2,7", _slice("0, 0, 1, 0", "1, 1, 7, 7", "1, 1, 3, 1"), "3, 1", "(0, 0), (1, 1)"),
        ("7,6", _slice("0, 0, 0, 0", "1, 1, 7, 6", "1, 1, 1, 1"), "1, 1", "(1, 1), (1, 0)"),
        ("3,1", _slice("0, 0, 1, 0", "1, 1, 6, 7", "1, 1, 2, 7"), "2, 7", "(0, 0), (1, 0)"),
    ],
)
def test_pixels(extents, cut, strides, pads):
    check_pass(
        PullSlices(),
        f"""{HEAD}
        %c : float32[1,1,7,7] = conv(%x, %k) {PADDED} from "C"
        %y : float32[1,1,{extents}] = slice(%c) {cut} from "S"
        output %y
        """,
        f"""{HEAD}
        %conv : float32[1,1,{extents}] = conv(%x, %k) {{strides=({strides}), dilations=(1, 1), \
pads=({pads})}} name "c" from "C", "S"
        output %conv as "y"
        """,
    )


@pytest.mark.parametrize(
    ("cut", "rows"),
    [
        (_slice("0, 1, 0, 0", "1, 4, 7, 7", "1, 2, 1, 1"), (1, 3)),
        (_slice("0, 2, 0, 0", "1, -1, 7, 7", "1, -1, 1, 1"), (2, 1, 0)),
    ],
)
def test_channels_through_activations(cut, rows):
    count = len(rows)
    check_pass(
        PullSlices(),
        f"""{HEAD}
        %c : float32[1,4,7,7] = conv(%x, %w, %b) {CONV} from "C"
        %r : float32[1,4,7,7] = relu(%c) from "R"
        %t : float32[1,4,7,7] = clip(%r) {{min=0.0, max=3.0}} from "T"
        %y : float32[1,{count},7,7] = slice(%t) {cut} from "S"
        output %y
        """,
        f"""{REST}
        const %w : float32[{count},1,1,1] = [{", ".join(f"{r + 1}.0" for r in rows)}]
        const %b : float32[{count}] = [{", ".join(f"{r + 5}.0" for r in rows)}]
        %conv : float32[1,{count},7,7] = conv(%x, %w, %b) {CONV} name "c" from "C", "S"
        %relu : float32[1,{count},7,7] = relu(%conv) name "r" from "R"
        %clip : float32[1,{count},7,7] = clip(%relu) {{min=0.0, max=3.0}} name "t" from "T"
        output %clip as "y"
        """,
    )


ALL = "1, 1, 7, 7"
HALF = _slice("0, 0, 0, 0", ALL, "1, 1, 2, 2")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            f"%c : T[1,1,7,7] = conv(%x, %k) {PADDED}\n%y : T[1,1,4,4] = slice(%c) {HALF}\noutput %c",
            "other users",
        ),
        (
            f"%c : T[1,1,7,7] = conv(%x, %k) {PADDED} | relu(.)\n%y : T[1,1,4,4] = slice(%c) {HALF}",
            "has an epilogue",
        ),
        (
            f"%c : T[1,1,7,7] = conv(%x, %k) {PADDED}\n%y : T[1,1,7,5] = slice(%c) "
            f"{_slice('0, 0, 0, 2', ALL, '1, 1, 1, 1')}",
            "it leaves out part of the input of 'c'",
        ),
        (
            f"%c : T[1,1,7,7] = conv(%x, %k) {PADDED}\n%y : T[1,1,5,7] = slice(%c) "
            f"{_slice('0, 0, 0, 0', '1, 1, 5, 7', '1, 1, 1, 1')}",
            "it leaves out part of the input of 'c'",
        ),
        (
            f"%c : T[1,1,7,7] = conv(%x, %k) {PADDED}\n%y : T[1,1,7,7] = slice(%c) "
            f"{_slice('0, 0, 6, 0', '1, 1, -1, 7', '1, 1, -1, 1')}",
            "goes backward",
        ),
        (
            f"%c : T[1,4,7,7] = conv(%z, %w) {CONV[:-1]}, groups=4}}\n%y : T[1,2,7,7] = slice(%c) "
            f"{_slice('0, 0, 0, 0', '1, 2, 7, 7', '1, 1, 1, 1')}",
            "'c' has 4 groups",
        ),
        (
            f"%c : T[1,4,7,7] = conv(%x, %v) {CONV}\n%y : T[1,2,7,7] = slice(%c) "
            f"{_slice('0, 0, 0, 0', '1, 2, 7, 7', '1, 1, 1, 1')}",
            "the weights of 'c' are computed",
        ),
    ],
)
def test_refusals(body, reason):
    more = "input %z : float32[1,4,7,7]\ninput %v : float32[4,1,1,1]"
    check_refused(PullSlices(), f"{HEAD}\n{more}\n{body.replace('T[', 'float32[')}\noutput %y", reason)


def test_slices_of_other_things_stay():
    check_untouched(
        PullSlices(),
        f"{HEAD}\n%c : float32[1,1,7,7] = identity(%x)\n%y : float32[1,1,4,4] = slice(%c) {HALF}\noutput %y",
    )

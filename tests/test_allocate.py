"""The workspace: pieces alive together never share a byte, and others do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convc.plan.allocate import ALIGNMENT, Buffer, Piece, most_alive, pack


@st.composite
def buffers(draw: st.DrawFn) -> Buffer:
    """Up to four pieces, one after the other or apart, each with a life of its own."""
    pieces = []
    end = 0
    for _ in range(draw(st.integers(1, 4))):
        start = end + draw(st.sampled_from([0, 0, 4, 100]))
        end = start + draw(st.integers(1, 2000))
        first = draw(st.integers(0, 20))
        pieces.append(Piece(start, end, first, first + draw(st.integers(0, 8))))
    return pieces


@settings(deadline=None)
@given(st.lists(buffers(), max_size=20))
def test_pieces_alive_together_do_not_overlap(found: list[Buffer]) -> None:
    packing = pack(found)
    placed = [
        (i, offset + p.start, offset + p.end, p)
        for i, (buffer, offset) in enumerate(zip(found, packing.offsets, strict=True))
        for p in buffer
    ]
    for i, start, end, p in placed:
        assert 0 <= start < end <= packing.nbytes
        for j, other_start, other_end, q in placed:
            together = p.first <= q.last and q.first <= p.last
            apart = end <= other_start or other_end <= start
            assert i == j or apart or not together
    assert all(offset % ALIGNMENT == 0 for offset in packing.offsets)


@settings(deadline=None)
@given(st.lists(buffers(), max_size=20))
def test_packing_lies_between_the_most_alive_at_once_and_everything(found: list[Buffer]) -> None:
    packing = pack(found)
    everything = sum(max(p.aligned().end for p in buffer) for buffer in found)
    assert most_alive(found)[0] == packing.bound <= packing.nbytes <= everything


def test_slices_that_are_written_later_lend_their_place() -> None:
    """A concatenation whose second half is written at step 9; a buffer that lives in between fits into it."""
    whole = [Piece(0, 640, 0, 10), Piece(640, 1280, 9, 10)]
    between = [Piece(0, 640, 3, 5)]
    packing = pack([whole, between])
    assert packing.nbytes == packing.bound == 1280
    assert packing.offsets == (0, 640)


def test_another_order_is_tried_where_the_largest_first_leaves_a_gap() -> None:
    """Bytes, first and last step; the largest first would take 1,408 bytes."""
    lives = [(256, 3, 7), (448, 4, 4), (512, 3, 7), (192, 6, 10), (384, 6, 7)]
    packing = pack([[Piece(0, *life)] for life in lives])
    assert packing.nbytes == packing.bound == 1344


@pytest.mark.parametrize("found", [[], [[]], [[], [Piece(0, 5, 0, 0)]]])
def test_empty_buffers_take_nothing(found: list[Buffer]) -> None:
    assert pack(found).nbytes == (ALIGNMENT if any(found) else 0)

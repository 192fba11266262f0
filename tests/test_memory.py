"""The workspace: buffers alive together never share a byte, and others do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from convc.compiler import Options, plan
from convc.frontends.builder import Network
from convc.memory import ALIGNMENT, _allocate
from convc.program import Argument, Location
from convc.progress import Progress
from convc.views import Root

DTYPES = st.sampled_from(["float32", "int8"])
LIVES = st.tuples(st.integers(1, 500), st.integers(0, 20), st.integers(0, 8), DTYPES)


def _size(root: Root) -> int:
    return root.elements * (4 if root.dtype == "float32" else 1)


@given(st.lists(LIVES, max_size=25))
def test_roots_alive_together_do_not_overlap(lives: list[tuple[int, int, int, str]]) -> None:
    roots = [Root("workspace", (n,), kind, first=first, last=first + more) for n, first, more, kind in lives]
    total = _allocate(roots)
    for root in roots:
        assert root.offset % ALIGNMENT == 0
        assert root.offset + _size(root) <= total
    for i, a in enumerate(roots):
        for b in roots[:i]:
            together = a.first <= b.last and b.first <= a.last
            apart = a.offset + _size(a) <= b.offset or b.offset + _size(b) <= a.offset
            assert apart or not together


@given(st.lists(LIVES, min_size=1, max_size=25))
def test_workspace_lies_between_the_most_alive_at_once_and_everything(
    lives: list[tuple[int, int, int, str]],
) -> None:
    roots = [Root("workspace", (n,), kind, first=first, last=first + more) for n, first, more, kind in lives]
    total = _allocate(roots)
    rounded = {id(r): -(-_size(r) // ALIGNMENT) * ALIGNMENT for r in roots}
    at_once = max(sum(rounded[id(r)] for r in roots if r.first <= t <= r.last) for t in range(30))
    assert at_once <= total <= sum(rounded.values())


def test_chain_needs_two_buffers_however_long() -> None:
    def workspace(layers: int) -> int:
        net = Network("chain")
        x = net.input("x", (1, 32, 20, 20))
        for _ in range(layers):
            x = net.tanh(net.conv(x, 32, 1))
        net.output(x)
        return plan(net.graph, Options(threads=1), Progress()).program.workspace_bytes

    assert workspace(4) == workspace(12)


def test_alignment_of_an_argument_is_what_its_place_guarantees() -> None:
    assert Argument(Location("input", 0, 0)).alignment == 4
    assert Argument(Location("workspace", 0, 0)).alignment == 64
    assert Argument(Location("workspace", 0, 4 * 12)).alignment == 16
    assert Argument(Location("output", 0, 128)).alignment == 64

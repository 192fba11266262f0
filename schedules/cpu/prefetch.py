"""Fetching the next panel of weights while the present one is used.

A network's weights come from memory, once for each inference. Hardware prefetching starts on a panel when its
first line is read, and then has only the time of that first pass; software can spread the requests over all
passes through the panel before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

Expr = Any
Loop = Any

LINE = 16  # float32 elements of a cache line
TO_L1, TO_L2 = 3, 2  # llvm.prefetch's locality
SEVERAL = 4
"""Passes through a panel of weights from which on the next one has time to go straight to L1.

With fewer, requests to L1 wait for its few line buffers. Weights out of memory, 2 Zen 4 threads: 128
channels, 7 tiles, 0.356 ms to L2 and 0.289 to L1; 512 channels, one tile, 1.60 ms to L2 and 1.98 to L1.
"""


def spread(
    sch: Any,
    loop: Loop,
    slot: Expr,
    slots: int,
    lines: int,
    load: Callable[[Expr], list[Any]],
    level: int,
) -> None:
    """Put prefetches of `lines` cache lines at the start of the body of `loop`, evenly over `slots` visits.

    `slot` numbers the visits; `load(line)` gives one `BufferLoad` for each of the streams that are fetched,
    on that line of theirs. Where there are more visits than lines, the last ones fetch nothing.
    """
    each = -(-lines // slots)
    fetch = _fetches([element for i in range(each) for element in load(slot * each + i)], level)
    if each * slots > lines + each:
        fetch = tirx.IfThenElse(slot * each < lines, fetch, None)
    _put(sch, loop, fetch)


def before(sch: Any, loop: Loop, elements: Sequence[Any], level: int) -> None:
    """Put prefetches of the lines with these elements (`BufferLoad`s) at the start of the body of `loop`."""
    _put(sch, loop, _fetches(elements, level))


def _fetches(elements: Sequence[Any], level: int) -> Any:
    statements = [
        tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", tirx.address_of(element), 0, level, 1))
        for element in elements
    ]
    return tirx.SeqStmt(statements) if len(statements) > 1 else statements[0]


def _put(sch: Any, loop: Loop, fetch: Any) -> None:
    node = sch.get(loop)
    body = tirx.SeqStmt([fetch, node.body])
    sch.state.replace(sch.get_sref(loop), tirx.For(node.loop_var, node.min, node.extent, node.kind, body))

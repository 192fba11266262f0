"""Reading scheduled programs: what a block computes, and which of its loops may be joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir.expr import Call, TensorLoad

from convc.dtype import DType

Schedule = Any
Block = Any
Loop = Any


def extent(sch: Schedule, loop: Loop) -> int:
    """The number of iterations of a loop."""
    return int(sch.get(loop).extent)


def blocks(sch: Schedule) -> list[Block]:
    """All blocks of a function that was not scheduled yet, producers first."""
    return list(sch.get_child_blocks(sch.get_sblock("root")))


def below(sch: Any, loop: Loop) -> list[Loop]:
    """The loops inside a loop, down to its block."""
    (block,) = sch.get_child_blocks(loop)
    loops = sch.get_loops(block)
    position = next(i for i, x in enumerate(loops) if sch.get(x).same_as(sch.get(loop)))
    return list(loops[position + 1 :])


@dataclass(frozen=True)
class Access:
    """One load or store: the buffer's shape and, for each of its axes, the index expression."""

    shape: tuple[int, ...]
    indices: tuple[Any, ...]


@dataclass(frozen=True)
class Nest:
    """A block's iteration variables, split by kind, its memory accesses and the size of its expression."""

    spatial: tuple[Any, ...]
    reduction: tuple[Any, ...]
    extents: tuple[int, ...]
    """Of the spatial variables."""
    steps: int
    """Iterations of the reduction for one output element."""
    accesses: tuple[Access, ...]
    operations: int
    itemsize: int
    """Bytes of an output element."""

    @property
    def points(self) -> int:
        """Number of output elements."""
        count = 1
        for e in self.extents:
            count *= e
        return count


def nest(sch: Schedule, block: Block) -> Nest:
    """Describe a block."""
    body = sch.get(block)
    spatial = [v for v in body.iter_vars if int(v.iter_type) != 2]
    reduction = [v for v in body.iter_vars if int(v.iter_type) == 2]
    accesses: list[Access] = []
    operations = 0

    def load(node: Any) -> None:
        accesses.append(_access(node))

    def count(node: Any) -> None:
        nonlocal operations
        operations += 1

    walked = [(TensorLoad, load), (tirx.BufferStore, load)]
    walked += [(kind, count) for kind in _ARITHMETIC]
    tvm_ffi.structural_walk(body.body, walked)
    steps = 1
    for v in reduction:
        steps *= int(v.dom.extent)
    return Nest(
        tuple(v.var for v in spatial),
        tuple(v.var for v in reduction),
        tuple(int(v.dom.extent) for v in spatial),
        steps,
        tuple(accesses),
        operations,
        DType.of(str(body.writes[0].source.dtype)).nbytes,
    )


_ARITHMETIC = (tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Max, tirx.Min, tirx.Select, tirx.Cast, Call)


_CHOICES = (tirx.Select, tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.EQ, tirx.NE, tirx.And, tirx.Or, tirx.Not)


def chooses(sch: Schedule, block: Block) -> bool:
    """Whether a block compares anything, such as an index with a bound."""
    found = False

    def visit(node: Any) -> None:
        nonlocal found
        found = True

    tvm_ffi.structural_walk(sch.get(block).body, [(kind, visit) for kind in _CHOICES])
    return found


def _buffer(node: Any) -> Any:
    return node.source if isinstance(node, TensorLoad) else node.buffer


def _access(node: Any) -> Access:
    return Access(tuple(int(e) for e in _buffer(node).shape), tuple(node.indices))


def joint_suffix(found: Nest) -> int:
    """The first of the trailing spatial axes that can be walked as one: every access either takes all of
    them in order, over whole buffer axes, or none of them."""
    first = len(found.spatial) - 1
    while first > 0 and all(_joint(a, found, first - 1) for a in found.accesses):
        first -= 1
    return max(first, 0)


def strided(found: Nest) -> bool:
    """Whether some access moves along the last spatial axis in steps larger than 1."""
    last = found.spatial[-1]
    return any(
        any(_uses(i, last) for i in a.indices[:-1]) and not _uses(a.indices[-1], last) for a in found.accesses
    )


def _joint(access: Access, found: Nest, first: int) -> bool:
    variables, extents = found.spatial[first:], found.extents[first:]
    used = [i for i in access.indices if any(_uses(i, v) for v in variables)]
    if not used:
        return True
    count = len(variables)
    if len(access.indices) < count or len(used) > count:
        return False
    tail = access.indices[-count:]
    whole = access.shape[-count + 1 :] == extents[1:] if count > 1 else True
    return whole and all(
        i.same_as(v) or (e == 1 and not _uses(i, v)) for i, v, e in zip(tail, variables, extents, strict=True)
    )


def _uses(expression: Any, variable: Any) -> bool:
    found = False

    def visit(node: Any) -> None:
        nonlocal found
        found = found or node.same_as(variable)

    tvm_ffi.structural_walk(expression, [(tirx.Var, visit)])
    return found

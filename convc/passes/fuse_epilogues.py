"""Epilogue fusion: elementwise readers join the node that makes their input, while that is in registers.

    %a = conv(%x, %w, %b)             %z = conv(%x, %w, %b) | add(., %r) | relu(.)
    %y = add(%r, %a)            ->
    %z = relu(%y)

Chains of elementwise nodes become one node, too, whose operator is the first of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from convc.dtype import FLOAT32
from convc.ir import Graph, Node, Step, Value, opdef
from convc.passes.base import Changes, Pass

LONGEST_EPILOGUE = 256
"""Vector instructions of the longest epilogue of an operator with arithmetic of its own.

It is repeated for each vector of a register tile, up to 24 of them: 256 instructions of 5 bytes then fill the
32 KB that L1 has for code.
"""
LONGEST_CHAIN = 1024
"""Vector instructions of the longest chain of elementwise operators in one kernel.

A cut costs a pass over memory. A vector of 32 bytes goes there and back in 20 cycles or so (64 bytes at
10 GB/s), which are 40 instructions: 4 % of a chain of this length. That compiles in half a second.
"""


def computes_elementwise(node: Node) -> bool:
    """Whether a node computes element by element; what only passes its input on, other passes remove."""
    op, x = opdef(node.op), node.inputs[0]
    passed_on = op.moves and x is not None and x.type == node.output.type
    return op.elementwise and not passed_on


def joinable(maker: Node) -> bool:
    """Whether elementwise readers of this node may become a part of it."""
    return opdef(maker.op).ends_in_epilogue or computes_elementwise(maker)


@dataclass(frozen=True)
class FuseEpilogues(Pass):
    """Append elementwise nodes to the epilogue of a producer.

    A node joins the producer of one of its operands when it is that value's only reader, works on `dtype`
    throughout and keeps the shape: f(head(...)) is computed where head(...) was. The fused node stands where
    the elementwise node stood, so that its other operand is there; nothing between them read the head. With
    two possible producers (a residual sum of two convolutions) the kernel is preferred to an elementwise
    chain, and else the one that is computed last. Where the whole would be too long, the node begins another
    chain.
    """

    name: ClassVar[str] = "fuse-epilogues"
    longest_epilogue: int = LONGEST_EPILOGUE
    longest_chain: int = LONGEST_CHAIN
    dtype: str = FLOAT32

    def run(self, graph: Graph) -> Changes:
        """One sweep in topological order: a node meets producers that already have all of their steps."""
        changes = Changes()
        position = {node: i for i, node in enumerate(graph.nodes)}
        for node in graph.nodes:
            if not computes_elementwise(node):
                continue
            producers = [
                v.producer for v in dict.fromkeys(node.operands) if v is not None and v.producer is not None
            ]
            heads = [p for p in producers if joinable(p)]
            reasons = {head: self._obstacle(graph, head, node) for head in heads}
            free = [head for head in heads if not reasons[head]]
            if free:
                head = max(free, key=lambda h: (opdef(h.op).ends_in_epilogue, position[h]))
                changes.did(node, f"{node.op} joins the epilogue of '{head.name}'")
                self._fuse(graph, head, node)
                position[head] = position[node]
            for head in heads if not free else ():
                changes.refuse(node, f"{node.op} does not join '{head.name}': {reasons[head]}")
        return changes

    def _obstacle(self, graph: Graph, head: Node, node: Node) -> str:
        """Why `node` cannot become a step of `head`, or ""."""
        running = head.output
        if graph.is_output(running):
            return f"%{running.name} is also returned"
        if graph.sole_user(running) is not node:
            return f"%{running.name} has {len(graph.users(running))} readers"
        if node.arity > 2:
            return f"{node.op} has {node.arity} operands"
        if node.inputs.count(running) > 1:
            return f"it uses %{running.name} more than once"
        if running.type.shape != node.output.type.shape:
            return f"it turns shape {running.type.shape} into {node.output.type.shape}"
        limit = self.longest_epilogue if opdef(head.op).ends_in_epilogue else self.longest_chain
        length = _instructions(head) + _instructions(node)
        if length > limit:
            return f"with it the epilogue would take {length} instructions a vector, of at most {limit}"
        dtypes = {v.type.dtype for v in (running, *node.inputs, node.output) if v is not None}
        return f"it computes with {', '.join(sorted(dtypes))}" if dtypes != {self.dtype} else ""

    def _fuse(self, graph: Graph, head: Node, node: Node) -> None:
        """Make `node`, and its own steps, the last steps of `head`'s epilogue."""
        running, output = head.output, node.output
        steps: list[tuple[Step, Value | None]] = []
        if node.arity == 1:
            steps.append((Step(node.op, node.attrs), None))
        else:
            side = node.inputs.index(running)
            swapped = side == 1 and not opdef(node.op).commutative
            steps.append((Step(node.op, node.attrs, 0, swapped), node.inputs[1 - side]))
        steps += [(s, None if s.operand is None else node.inputs[s.operand]) for s in node.epilogue]
        graph.replace_uses(output, running)
        graph.move(head, before=node)
        # the node itself reads `running`: detach it before it goes
        graph.remove(node)
        for step, operand in steps:
            value = None if operand is None else self._full_rank(graph, operand, running.type.rank)
            graph.append_step(head, replace(step, operand=None), value, node.origin)

    def _full_rank(self, graph: Graph, operand: Value, rank: int) -> Value:
        """A constant operand with leading extents of 1 up to `rank`: (C, 1, 1) becomes (1, C, 1, 1)."""
        array = graph.constant(operand)
        if array is None or operand.type.rank == rank:
            return operand
        full = array.reshape((1,) * (rank - array.ndim) + array.shape)
        if not graph.users(operand) and not graph.is_output(operand):
            graph.remove_constant(operand)
        return graph.add_constant(operand.name, full)


def _instructions(node: Node) -> int:
    """Vector instructions of a node's elementwise operators, its own included."""
    own = (node.op,) if opdef(node.op).elementwise else ()
    return sum(opdef(op).instructions for op in (*own, *(step.op for step in node.epilogue)))

"""If: one of two graphs, by a condition."""

from __future__ import annotations

from collections.abc import Sequence

from convc.errors import ConvcError
from convc.frontends.onnx.call import Call, Refusal
from convc.frontends.onnx.handlers import Result, onnx_op
from convc.ir import Value
from convc.ops.shape import ReshapeAttrs

BRANCHES = ("then_branch", "else_branch")


@onnx_op("If")
def branch(call: Call) -> Result:
    """The branch that a known condition takes; where it is computed, both, and a choice of their results."""
    condition = call.input(0)
    if condition.type.dtype != "bool" or condition.type.size != 1:
        call.malformed(f"the condition is {condition.type}; one bool is expected.")
    known = call.graph.constant(condition)
    if known is not None:
        return _results(call, BRANCHES[0] if known.item() else BRANCHES[1])
    then, other = _both(call, condition)
    return [_choice(call, condition, *pair) for pair in zip(then, other, call.proto.output, strict=False)]


def _results(call: Call, name: str) -> Sequence[Value]:
    """The results of a branch, one for each output of the node."""
    found = call.graph_of(name)
    if len(found) < len(call.proto.output):
        call.malformed(f"{name} has {len(found)} outputs, the node {len(call.proto.output)}.")
    return found


def _both(call: Call, condition: Value) -> list[Sequence[Value]]:
    """The results of both branches. One that does not fit this model's shapes may be the one never taken."""
    before, results, faults = call.scope.refusals, [], []
    for name in BRANCHES:
        try:
            results.append(_results(call, name))
        except ConvcError as error:
            faults.append(error)
    if call.scope.refusals > before:
        call.scope.want([condition.name])
    if faults and call.scope.refusals:
        raise faults[0]  # what follows from a refusal is no news
    if faults:
        raise Refusal(
            f"its condition '{condition.name}' is computed at run time, and a branch fails: "
            f"{faults[0].message.rstrip('.')}",
            [condition.name],
        ) from faults[0]
    return results


def _choice(call: Call, condition: Value, then: Value, other: Value, output: str) -> Value:
    if then is other:
        return then
    if (then.type.shape, then.type.dtype) != (other.type.shape, other.type.dtype):
        raise Refusal(
            f"its condition '{condition.name}' is computed at run time, and '{output}' is {then.type} in one "
            f"branch and {other.type} in the other",
            [condition.name],
        )
    if condition.type.rank:
        condition = call.part("reshape", [condition], ReshapeAttrs(()))
    return call.part("where", [condition, then, other])

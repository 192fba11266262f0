"""BatchNormalization and its relatives."""

from __future__ import annotations

import numpy as np

from convc.frontends.onnx.call import Call
from convc.frontends.onnx.handlers import Result, onnx_op
from convc.ops.norm import BatchNormAttrs, GroupNormAttrs, InstanceNormAttrs, LayerNormAttrs, LrnAttrs
from convc.ops.reduce import ReduceAttrs
from convc.ops.shape import ExpandAttrs, ReshapeAttrs
from convc.types import TensorType


@onnx_op("BatchNormalization")
def batch_norm(call: Call) -> Result:
    """Normalisation with stored statistics."""
    if not call.flag("spatial", True):
        call.refuse("attribute spatial = 0 (a mean for each pixel)")
    if call.flag("training_mode"):
        call.refuse("attribute training_mode = 1")
    if call.used - {0}:
        call.refuse(f"output {min(call.used - {0})} is used, which only training computes")
    inputs = [call.input(i) for i in range(5)]
    return call.emit("batch_norm", inputs, BatchNormAttrs(call.real("epsilon", 1e-5)))


@onnx_op("InstanceNormalization")
def instance_norm(call: Call) -> Result:
    """Each channel of each sample by its own statistics."""
    attrs = InstanceNormAttrs(call.real("epsilon", 1e-5))
    return call.emit("instance_norm", [call.input(0), call.input(1), call.input(2)], attrs)


@onnx_op("GroupNormalization", since=18)
def group_norm_by_group(call: Call) -> Result:
    """As from opset 21 on, but with a scale and a bias for each group (ONNX withdrew this form)."""
    x, attrs = call.input(0), _group_attrs(call)
    if x.type.rank < 2 or attrs.groups < 1 or x.type.shape[1] % attrs.groups:
        call.malformed(f"the input {x.type} does not divide into {attrs.groups} groups of channels.")
    inputs = [x]
    for index, what in enumerate(("scale", "bias"), 1):
        vector = call.input(index)
        if vector.type.shape != (attrs.groups,):
            call.malformed(f"{what} has shape {vector.type.shape}; ({attrs.groups},) is expected.")
        column = call.part("reshape", [vector], ReshapeAttrs((attrs.groups, 1)))
        each = x.type.shape[1] // attrs.groups
        wide = call.part("expand", [column], ExpandAttrs((attrs.groups, each)))
        inputs.append(call.part("reshape", [wide], ReshapeAttrs((x.type.shape[1],))))
    return call.emit("group_norm", inputs, attrs)


@onnx_op("GroupNormalization", since=21)
def group_norm(call: Call) -> Result:
    """Groups of channels of each sample by their own statistics, each channel with a scale and a bias."""
    return call.emit("group_norm", [call.input(0), call.input(1), call.input(2)], _group_attrs(call))


def _group_attrs(call: Call) -> GroupNormAttrs:
    return GroupNormAttrs(call.integer("num_groups"), call.real("epsilon", 1e-5))


@onnx_op("LayerNormalization")
def layer_norm(call: Call) -> Result:
    """All axes from `axis` on together."""
    if call.used - {0}:
        call.refuse(f"output {min(call.used - {0})} (Mean, InvStdDev) is used, which only training needs")
    x = call.input(0)
    attrs = LayerNormAttrs(call.axis(call.integer("axis", -1), x.type.rank), call.real("epsilon", 1e-5))
    return call.emit("layer_norm", [x, call.input(1), call.optional(2)], attrs)


@onnx_op("LRN")
def lrn(call: Call) -> Result:
    """Local response normalisation across channels."""
    attrs = LrnAttrs(
        call.integer("size"), call.real("alpha", 1e-4), call.real("beta", 0.75), call.real("bias", 1.0)
    )
    n, c, *rest = (*call.input(0).type.shape, 1, 1)[: max(2, call.input(0).type.rank)]
    call.afford(TensorType((n, c + attrs.size - 1, *rest), call.input(0).type.dtype))
    return call.emit("lrn", [call.input(0)], attrs)


@onnx_op("LpNormalization")
def lp_norm(call: Call) -> Result:
    """A tensor divided by its norm along one axis."""
    x, p = call.input(0), call.integer("p", 2)
    if p not in (1, 2) or not x.type.is_float:
        call.malformed(f"attribute p = {p} must be 1 or 2, and the input {x.type} one of floats.")
    attrs = ReduceAttrs((call.axis(call.integer("axis", -1), x.type.rank),))
    norm = call.part(f"reduce_l{p}", [x], attrs)
    least = call.scalar(float(np.finfo(x.type.dtype).tiny), x)  # zeros stay zeros: they are not 0 / 0
    return call.emit("div", [x, call.part("max", [norm, least])])

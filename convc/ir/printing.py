"""The text form of graphs, printed; `parsing` reads it back.

    graph "tiny" {
      input %x : float32[1,3,8,8]
      const %w : float32[16,3,3,3] = @sha256:5d41402abc4b2a76
      const %b : float32[1,1,1,1] = [0.5]
      %y : float32[1,16,6,6] = conv(%x, %w, _) {...} | add(., %b) | relu(.) name "conv1" from "Conv_0"
      output %y as "prob"
    }

One statement a line. `_` is an absent input, `.` the running value of an epilogue. Constants of up to
`INLINE` elements are written out in row-major order; larger ones are named by the digest of their bytes and
handed to the parser beside the text. Attributes at their defaults are left out, as is a node's name when it
is that of its first output. Names with odd characters are quoted: `%"a b"`. Lines that begin with `#` are
comments.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from convc.ir.opdef import Attrs
from convc.types import Array

if TYPE_CHECKING:
    from convc.ir.graph import Graph, Node, Step, Value

INLINE = 16
"""Constants of up to so many elements are written out."""

BARE = r"[A-Za-z0-9_./-](?:[A-Za-z0-9_./:-]*[A-Za-z0-9_./-])?"
"""A name that needs no quotes."""


def print_graph(graph: Graph) -> str:
    """The text form of `graph`. `parse_graph` with the graph's large constants makes an equal one."""
    lines = [f"graph {json.dumps(graph.name)} {{"]
    lines += [f"  input {_name(v)} : {v.type}" for v in graph.inputs]
    lines += [f"  const {_name(v)} : {v.type} = {_constant(array)}" for v, array in graph.constants.items()]
    lines += [f"  {print_node(node)}" for node in graph.nodes]
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        lines.append(f"  output {_name(value)}" + ("" if name == value.name else f" as {json.dumps(name)}"))
    return "\n".join([*lines, "}", ""])


def print_node(node: Node) -> str:
    """One node's statement, without indentation or newline."""
    outputs = ", ".join(f"{_name(v)} : {v.type}" for v in node.outputs)
    call = f"{node.op}({', '.join(map(_name, node.operands))})" + print_attrs(node.attrs)
    steps = "".join(" | " + _step(node, step) for step in node.epilogue)
    name = "" if node.name == node.output.name else f" name {json.dumps(node.name)}"
    origin = " from " + ", ".join(map(json.dumps, node.origin)) if node.origin else ""
    return f"{outputs} = {call}{steps}{name}{origin}"


def print_attrs(attrs: Attrs) -> str:
    """Attributes other than their defaults, as ` {strides=(2, 2)}`, or nothing."""
    fields = [(f, getattr(attrs, f.name)) for f in dataclasses.fields(attrs)]
    given = [f"{f.name}={_literal(value)}" for f, value in fields if value != f.default]
    return f" {{{', '.join(given)}}}" if given else ""


def digest(array: Array) -> str:
    """The first 16 digits of the SHA-256 of a constant's bytes, in row-major order."""
    return hashlib.sha256(np.ascontiguousarray(array).data if array.size else b"").hexdigest()[:16]


def _name(value: Value | None) -> str:
    if value is None:
        return "_"
    return "%" + (value.name if re.fullmatch(BARE, value.name) else json.dumps(value.name))


def _constant(array: Array) -> str:
    if array.size > INLINE:
        return f"@sha256:{digest(array)}"
    return f"[{', '.join(str(x) for x in array.flat)}]"  # str gives the shortest text that rounds back


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' if len(value) == 1 else ''})"
    return repr(value.item() if isinstance(value, np.generic) else value)


def _step(node: Node, step: Step) -> str:
    arguments = ["."]
    if step.operand is not None:
        arguments.insert(0 if step.swapped else 1, _name(node.inputs[step.operand]))
    return f"{step.op}({', '.join(arguments)})" + print_attrs(step.attrs)

"""The graph IR: what a network is, what makes it well formed, and how it reads as text."""

from convc.ir.compare import difference, equal
from convc.ir.fields import Window
from convc.ir.graph import Graph, Node, Step, Value
from convc.ir.opdef import Attrs, Cost, OpDef, opdef, register
from convc.ir.parsing import parse_graph
from convc.ir.printing import print_graph
from convc.ir.verify import verify

__all__ = [
    "Attrs", "Cost", "Graph", "Node", "OpDef", "Step", "Value", "Window",
    "difference", "equal", "opdef", "parse_graph", "print_graph", "register", "verify",
]  # fmt: skip

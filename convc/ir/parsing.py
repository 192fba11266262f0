"""The text form of graphs, parsed to equal ones; `printing` says what it is like."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from convc.dtype import DTYPES, DType
from convc.errors import ConvcError, GraphError, TypeRuleError
from convc.ir.attributes import declared
from convc.ir.graph import Graph, Step, Value
from convc.ir.opdef import Attrs, opdef
from convc.ir.printing import BARE, digest
from convc.types import PLAIN, Array, Layout, TensorType

_STRING = r'"(?:[^"\\]|\\.)*"'


def parse_graph(text: str, constants: Mapping[str, Array] | None = None) -> Graph:
    """Read a graph from its text form.

    `constants` has the arrays of large constants by the name of their value. Operators must be known:
    import `convc.ops` first. Raises GraphError that names the line.
    """
    graph: Graph | None = None
    parser: _Parser | None = None
    closed = False
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        scan = _Scanner(stripped, number)
        if closed:
            raise scan.error("nothing may follow the closing '}'")
        if graph is None or parser is None:
            scan.expect("graph")
            graph = Graph(scan.string())
            scan.expect("{")
            parser = _Parser(graph, constants or {})
        elif stripped == "}":
            closed = True
            scan.expect("}")
        else:
            parser.statement(scan)
        scan.end()
    if graph is None or parser is None or not closed:
        raise GraphError(
            "The text ends before the graph does.", hint="Close it with '}' on a line of its own."
        )
    graph.set_outputs(parser.outputs, parser.output_names)
    return graph


class _Scanner:
    """Reads one line from left to right; every complaint names the line."""

    def __init__(self, line: str, number: int) -> None:
        self.rest = line
        self.number = number

    def error(self, what: str) -> GraphError:
        where = f", at '{self.rest[:40]}'" if self.rest else ""
        return GraphError(f"Line {self.number}: {what}{where}.")

    def match(self, pattern: str) -> re.Match[str] | None:
        found = re.match(pattern, self.rest)
        if found:
            self.rest = self.rest[found.end() :].lstrip()
        return found

    def accept(self, word: str) -> bool:
        return self.match(re.escape(word) + (r"\b" if word.isalpha() else "")) is not None

    def expect(self, word: str) -> None:
        if not self.accept(word):
            raise self.error(f"'{word}' expected")

    def end(self) -> None:
        if self.rest:
            raise self.error("the line should end here")

    def word(self, what: str) -> str:
        found = self.match(r"[A-Za-z_]\w*")
        if not found:
            raise self.error(f"{what} expected")
        return found[0]

    def string(self) -> str:
        found = self.match(_STRING)
        if not found:
            raise self.error("a name in double quotes expected")
        return str(json.loads(found[0]))

    def name(self) -> str:
        """A value's name, after its percent sign."""
        found = self.match(f"%(?:({BARE})|({_STRING}))")
        if not found:
            raise self.error("a value such as %x expected")
        return found[1] if found[1] is not None else str(json.loads(found[2]))

    def type(self) -> TensorType:
        found = self.match(rf"({'|'.join(DTYPES)})\[((?:\d+(?:,\s*\d+)*)?)\](?:\{{c(\d+)\}})?")
        if not found:
            raise self.error("a type such as float32[1,3,8,8] expected")
        shape = tuple(int(d) for d in found[2].split(",") if d)
        return TensorType(shape, DType.of(found[1]), Layout(int(found[3])) if found[3] else PLAIN)

    def bracketed(self, opening: str, closing: str) -> str:
        """The text between two brackets, which may contain strings."""
        self.expect(opening)
        inner = self.match(rf"""((?:[^{closing}"']|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')*)\{closing}""")
        if not inner:
            raise self.error(f"'{closing}' is missing")
        return inner[1]


class _Parser:
    """Adds one statement after another to a graph."""

    def __init__(self, graph: Graph, constants: Mapping[str, Array]) -> None:
        self.graph = graph
        self.constants = constants
        self.values: dict[str, Value] = {}
        self.node_names: set[str] = set()
        self.outputs: list[Value] = []
        self.output_names: list[str] = []

    def statement(self, scan: _Scanner) -> None:
        if scan.accept("input"):
            name, kind = self.declaration(scan)
            self.values[name] = self.graph.add_input(name, kind)
        elif scan.accept("const"):
            name, kind = self.declaration(scan)
            value = self.graph.add_constant(name, self.array(scan, name, kind))
            self.graph.set_type(value, kind)
            self.values[name] = value
        elif scan.accept("output"):
            value = self.value(scan)
            self.outputs.append(value)
            self.output_names.append(scan.string() if scan.accept("as") else value.name)
        else:
            self.node(scan)

    def declaration(self, scan: _Scanner) -> tuple[str, TensorType]:
        name = scan.name()
        if name in self.values:
            raise scan.error(f"%{name} is defined twice")
        scan.expect(":")
        return name, scan.type()

    def value(self, scan: _Scanner) -> Value:
        name = scan.name()
        if name not in self.values:
            raise scan.error(f"%{name} is used before it is defined")
        return self.values[name]

    def array(self, scan: _Scanner, name: str, kind: TensorType) -> Array:
        scan.expect("=")
        if found := scan.match(r"@sha256:([0-9a-f]+)"):
            array = self.constants.get(name)
            if array is None:
                raise scan.error(f"the array of constant %{name} was not given")
            if (array.shape, str(array.dtype)) != (kind.shape, kind.dtype):
                raise scan.error(f"%{name} is {kind}, but the array given is {array.dtype} {array.shape}")
            if digest(array) != found[1]:
                raise scan.error(f"%{name} has digest {found[1]}, but the array given has {digest(array)}")
            return array
        elements = _evaluate(scan, f"[{scan.bracketed('[', ']')}]")
        if len(elements) != kind.size:
            raise scan.error(f"%{name} has {len(elements)} elements; {kind} needs {kind.size}")
        return np.array(elements, kind.dtype).reshape(kind.shape)

    def node(self, scan: _Scanner) -> None:
        declared = [self.declaration(scan)]
        while scan.accept(","):
            declared.append(self.declaration(scan))
        scan.expect("=")
        op, arguments, attrs = self.call(scan)
        arity = len(arguments)
        inputs = [self.argument(scan, a) for a in arguments]
        steps: list[Step] = []
        while scan.accept("|"):
            steps.append(self.step(scan, inputs))
        names = [name for name, _ in declared]
        node_name = scan.string() if scan.accept("name") else names[0]
        origin = [scan.string()] if scan.accept("from") else []
        while origin and scan.accept(","):
            origin.append(scan.string())
        if node_name in self.node_names or len(set(names)) < len(names):
            raise scan.error(f"the node '{node_name}' or one of its outputs is defined twice")
        try:
            types = opdef(op).infer(attrs, [None if v is None else v.type for v in inputs[:arity]])
            written = [(t.shape, t.dtype) for _, t in declared]
            if written != [(t.shape, t.dtype) for t in types]:
                made = ", ".join(map(str, types))
                raise scan.error(f"by the rule of {op}, '{node_name}' makes {made}")
            node = self.graph.add(
                op,
                inputs,
                attrs,
                name=node_name,
                origin=origin,
                output_names=names,
                epilogue=steps,
                arity=arity,
            )
        except GraphError:
            raise
        except ConvcError as error:
            raise GraphError(f"Line {scan.number}: '{node_name}': {error}") from error
        self.node_names.add(node_name)
        for value, (name, kind) in zip(node.outputs, declared, strict=True):
            self.graph.set_type(value, kind)
            self.values[name] = value

    def call(self, scan: _Scanner) -> tuple[str, list[str], Attrs]:
        op = scan.word("an operator")
        attrs_type = _attrs_type(scan, op)
        scan.expect("(")
        arguments: list[str] = []
        while not scan.accept(")"):
            if arguments:
                scan.expect(",")
            found = scan.match(rf"%(?:{BARE}|{_STRING})|[._](?=\s*[,)])")
            if not found:
                raise scan.error("an argument such as %x, _ or . expected")
            arguments.append(found[0])
        return op, arguments, _parse_attrs(scan, op, attrs_type)

    def argument(self, scan: _Scanner, text: str) -> Value | None:
        if text == "_":
            return None
        if text == ".":
            raise scan.error("'.' is the running value of an epilogue, and may stand only after '|'")
        return self.value(_Scanner(text, scan.number))

    def step(self, scan: _Scanner, inputs: list[Value | None]) -> Step:
        op, arguments, attrs = self.call(scan)
        if arguments.count(".") != 1 or len(arguments) > 2:
            raise scan.error(f"the step {op} needs '.' once, and at most one operand")
        if len(arguments) == 1:
            return Step(op, attrs)
        swapped = arguments[1] == "."
        operand = self.argument(scan, arguments[0 if swapped else 1])
        if operand is None:
            raise scan.error(f"the operand of the step {op} is missing")
        inputs.append(operand)
        return Step(op, attrs, len(inputs) - 1, swapped)


def _attrs_type(scan: _Scanner, op: str) -> type[Attrs]:
    try:
        return opdef(op).attrs
    except GraphError as error:
        raise GraphError(f"Line {scan.number}: {error}") from error


def _parse_attrs(scan: _Scanner, op: str, attrs_type: type[Attrs]) -> Attrs:
    given: dict[str, Any] = {}
    if scan.rest.startswith("{"):
        for keyword in _expression(scan, f"f({scan.bracketed('{', '}')})").keywords:
            given[str(keyword.arg)] = _evaluate(scan, keyword.value)
    fields = [f.name for f in dataclasses.fields(attrs_type)]
    if unknown := sorted(set(given) - set(fields)):
        raise scan.error(f"{op} has no attribute '{unknown[0]}' (it has: {', '.join(fields) or 'none'})")
    try:
        return declared(attrs_type(**given))
    except (TypeError, TypeRuleError) as error:
        raise scan.error(f"attributes of {op}: {error}") from error


def _expression(scan: _Scanner, source: str) -> Any:
    try:
        return ast.parse(source, mode="eval").body
    except SyntaxError as error:
        raise scan.error(f"'{source}' is not a Python literal") from error


class _FloatNames(ast.NodeTransformer):
    """Turns the names `inf` and `nan` into floats, which Python has no literals for."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(float(node.id)) if node.id in ("inf", "nan") else node


def _evaluate(scan: _Scanner, source: str | ast.expr) -> Any:
    tree = _expression(scan, source) if isinstance(source, str) else source
    try:
        return ast.literal_eval(_FloatNames().visit(tree))
    except ValueError as error:
        raise scan.error(f"'{ast.unparse(tree)}' is not a Python literal") from error

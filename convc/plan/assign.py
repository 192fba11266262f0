"""The choice for the whole graph at once: each layer's lowering, the layouts between layers, their places.

A layer's cheapest lowering need not be the best: it may read another layout than its producer writes, or a
border of zeros that forces a copy out of the caller's array. So the total is minimised. Two kinds of variable
take part:

    node    one of its options (`select.Option`): a lowering in certain layouts, reading a certain border
    value   the forms in which it is stored: for each layout, absent or with a border of some width

and these prices, each over at most two variables, which `elimination.minimise` adds up:

    node            the kernel; nothing where the result is a view (concatenation, split, reshape)
    node, output    a copy for each form in another layout than the node writes; zeroing the borders
    input, node     a copy of its own where the node finds no form that suits; a view broken by a border

A value that several layers read in one layout is converted once, since its form is chosen once; where they
ask for borders of different width, the buffer has the widest, and narrower ones lie within it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from convc.ir import Graph, Node, Value
from convc.plan.aliases import axis_of, concatenated, is_reinterpretation, is_view
from convc.plan.elimination import Factor, Solution, minimise
from convc.plan.select import Choice, NodeOptions, Option, Selector
from convc.tiling.registers import memory_seconds
from convc.types import PLAIN, Layout, TensorType
from convc.workload import Halo, Workload, covers, widest

Forms = Mapping[Layout, Halo]
"""The layouts in which a value is stored, and the border that each has."""


@dataclass
class Assignment:
    """The joint choice for a graph whose values are all still plain."""

    graph: Graph
    selector: Selector
    options: dict[Node, NodeOptions] = field(default_factory=dict)
    forms: dict[Value, list[Forms]] = field(default_factory=dict)
    factors: list[Factor] = field(default_factory=list)
    _number: dict[Node | Value, int] = field(default_factory=dict)

    def run(self) -> dict[Node, Choice]:
        """The choice of every node."""
        self.options = {node: self.selector.options(self.graph, node) for node in self.graph.nodes}
        values = [v for v in self.graph.values() if self.graph.constant(v) is None]
        self.forms = {value: self._forms(value) for value in values}
        items: list[Node | Value] = [*self.options, *self.forms]
        self._number = {item: number for number, item in enumerate(items)}
        for given in self.graph.inputs:
            self._price((given,), [self._stored(given, PLAIN, forms) for forms in self.forms[given]])
        for node, options in self.options.items():
            self._price((node,), [self._computed(node, o) for o in options.allowed])
            for index, value in enumerate(node.inputs):
                if value is not None and value in self.forms:
                    self._price((node, value), [[self._read(o, index, value, f) for f in self.forms[value]]
                                                for o in options.allowed])  # fmt: skip
            for index, result in enumerate(node.outputs):
                self._price((node, result), [[self._written(o, index, result, f) for f in self.forms[result]]
                                             for o in options.allowed])  # fmt: skip
        solution = self.solve()
        return {node: self._choice(node, solution) for node in self.options}

    def solve(self) -> Solution:
        """The state of each node (an index into its options) and value (into its forms), and the total."""
        sizes = [len(o.allowed) for o in self.options.values()] + [len(f) for f in self.forms.values()]
        return minimise(sizes, self.factors)

    def _price(self, items: tuple[Node | Value, ...], seconds: list[float] | list[list[float]]) -> None:
        self.factors.append(Factor(tuple(self._number[i] for i in items), np.array(seconds)))

    def _forms(self, value: Value) -> list[Forms]:
        """The sets of forms worth considering: the layouts in which some option writes or reads the value."""
        borders: dict[Layout, list[Halo]] = {}
        written = {PLAIN} if value.producer is None else set()
        if value.producer is not None:
            index = value.producer.outputs.index(value)
            written = {o.workload.outputs[index].layout for o in self.options[value.producer].allowed}
        for layout in sorted(written, key=lambda w: w.block):
            borders[layout] = [()]
        for layout, halo in self._wanted(value):
            known = borders.setdefault(layout, [])
            known += [halo] if halo not in known else []
        for known in borders.values():
            all_in_one = reduce(widest, known)
            known += [all_in_one] if all_in_one not in known else []
        absent: dict[Layout, list[Halo | None]] = {
            layout: list(halos) if written == {layout} else [None, *halos]
            for layout, halos in borders.items()
        }
        sets = (dict(zip(absent, chosen, strict=True)) for chosen in itertools.product(*absent.values()))
        return [{k: h for k, h in s.items() if h is not None} for s in sets if set(s.values()) != {None}]

    def _wanted(self, value: Value) -> Iterator[tuple[Layout, Halo]]:
        """The forms that readers ask for."""
        for node in self.graph.users(value):
            for option in self.options[node].allowed:
                for index, read in enumerate(node.inputs):
                    kind = option.workload.inputs[index]
                    if read is value and kind is not None:
                        yield kind.layout, option.halo if index == 0 else ()
        if self.graph.is_output(value):
            yield PLAIN, ()

    # ---- prices in seconds

    def _computed(self, node: Node, option: Option) -> float:
        """The kernel, or the copies that are left of it where the result is a view."""
        w = option.workload
        if not is_view(w) or (any(w.constant) and concatenated(w)):
            return option.seconds
        if not concatenated(w):
            return 0.0
        return sum(
            self.selector.copy(value.type, w.outputs[0].layout).seconds
            for index, value in enumerate(node.inputs)
            if value is not None and (self._is_callers(value) or value in node.inputs[:index])
        )

    def _written(self, option: Option, index: int, value: Value, forms: Forms) -> float:
        """The forms of a result, and the copy where it would be a view but for its border."""
        layout = option.workload.outputs[index].layout
        broken = _breaks(option.workload, forms.get(layout, ()))
        return self._stored(value, layout, forms) + (option.seconds if broken else 0.0)

    def _stored(self, value: Value, layout: Layout, forms: Forms) -> float:
        """Copies of a value that is first written in `layout`, and zeros around them."""
        total = 0.0
        for form, halo in forms.items():
            callers = self._is_callers(value) and any(map(any, halo))  # its array has no room for a border
            if form != layout or callers:
                total += self._convert(value.type, layout, form, halo)
            total += self._border(value.type.with_layout(form), halo)
        if self.graph.is_output(value) and layout != PLAIN and PLAIN not in forms:
            total += self._convert(value.type, layout, PLAIN, ())
        return total

    def _read(self, option: Option, index: int, value: Value, forms: Forms) -> float:
        """What it costs a reader that the forms of its input are others than it asks for."""
        kind = option.workload.inputs[index]
        assert kind is not None
        halo = option.halo if index == 0 else ()
        found = forms.get(kind.layout)
        if found is not None and covers(found, halo):
            return option.seconds if _breaks(option.workload, found) else 0.0
        source = next(iter(forms))
        return self._convert(value.type, source, kind.layout, halo) + self._border(kind, halo)

    def _convert(self, kind: TensorType, source: Layout, result: Layout, halo: Halo) -> float:
        """Seconds to copy a tensor from one layout to another."""
        option = self.selector.copy(kind.with_layout(source), result)
        free = source != result and not any(map(any, halo)) and is_reinterpretation(option.workload)
        return 0.0 if free else option.seconds

    def _border(self, kind: TensorType, halo: Halo) -> float:
        """Seconds in which one thread zeroes a border."""
        shape = list(kind.physical)
        for axis, sides in enumerate(halo):
            shape[2 + axis] += sum(sides)
        zeros = math.prod(shape) - math.prod(kind.physical)
        nbytes = zeros * kind.itemsize
        return memory_seconds(nbytes, self.selector.target.with_threads(1))

    def _is_callers(self, value: Value) -> bool:
        return value.producer is None or self.graph.is_output(value)

    # ---- the result

    def _choice(self, node: Node, solution: Solution) -> Choice:
        options, number = self.options[node], self._number[node]
        option = options.allowed[solution.states[number]]
        return Choice(
            option.lowering,
            option.workload,
            options.candidates,
            self._reason(node, option, solution),
            None if option.measured is None else option.measured.config,
        )

    def _reason(self, node: Node, chosen: Option, solution: Solution) -> str:
        """Why not the cheapest option, all other layers being as they are; "" where it was taken."""
        cheapest = self.options[node].allowed[0]
        if cheapest.lowering is chosen.lowering:
            return ""
        number = self._number[node]
        mine = [f for f in self.factors if number in f.variables]
        prices = sum(
            (f.along(number, solution.states) for f in mine), np.zeros(len(self.options[node].allowed))
        )
        gain = 1e3 * (chosen.seconds - cheapest.seconds)
        loss = 1e3 * float(prices[0] - prices[solution.states[number]]) + gain
        return (
            f"chosen over {cheapest.lowering.name}, which is {gain:.3f} ms cheaper by itself and would cost "
            f"{loss:.3f} ms in the layouts and borders around it"
        )


def _breaks(w: Workload, halo: Halo) -> bool:
    """Whether a border around a tensor keeps it from being a view, or from having views.

    Slices along channels have borders like the whole; other views leave no room between their elements.
    """
    if not any(map(any, halo)) or not is_view(w):
        return False
    return is_reinterpretation(w) or axis_of(w) != 1

"""Each value bound inside an expression is computed once, into a place of its own on the stack.

Formulas bind what they use twice (`functions.let`), and a chain of them nests such bindings. TVM's analysers
put the bound expression in the place of each use, so that three sigmoids in a row took LLVM's translation a
minute. Written to a stack slot and read from there, a value hides what it was made of; LLVM turns slots into
registers before all else. So the text grows linearly with the chain:

    y[i] = let t = f(x[i]) in t * g(t)        ->        t[0] = f(x[i])
                                                        y[i] = t[0] * g(t[0])
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import Call

from convc.lowering.functions import BOUND

Expr = Any
Stmt = Any

_ZERO = tirx.const(0, "int32")


def bared_values() -> Any:
    """The pass that takes the wrappers off bound values: TVM takes what it does not know for dangerous."""

    def bare(call: Any) -> Any:
        return call.args[0] if call.op.same_as(BOUND) else call

    return _on_bodies("bared_values", lambda body: tvm_ffi.structural_map(body, (Call, bare)))


def stored_values() -> Any:
    """The pass that stores bound values, for functions whose loops are vectorised and unrolled."""

    def stored(statement: Any) -> Any:
        if not _has(statement.value, tirx.Let):
            return statement
        place = _Place()
        value = place.flat(statement.value)
        if isinstance(statement, tirx.BufferStore):
            return place.before(tirx.BufferStore(statement.buffer, value, statement.indices))
        return place.before(tirx.Evaluate(value))

    kinds = (tirx.BufferStore, tirx.Evaluate)
    return _on_bodies("stored_values", lambda body: tvm_ffi.structural_map(body, (kinds, stored)))


def _on_bodies(name: str, change: Any) -> Any:
    @tirx.transform.prim_func_pass(opt_level=0, name=f"convc.{name}")  # type: ignore[untyped-decorator]
    def transform(func: Any, mod: Any, context: Any) -> Any:
        return func.with_body(change(func.body))

    return transform


def _has(value: Expr, kind: Any) -> bool:
    found = tvm_ffi.structural_walk(value, (kind, lambda node: tvm_ffi.VisitInterrupt(node)), order="pre")
    return found is not None


class _Place:
    """The statements that a statement's bound values take, in order."""

    def __init__(self, slots: dict[Any, Any] | None = None) -> None:
        self._statements: list[Stmt] = []
        self._slots: dict[Any, Any] = {} if slots is None else slots

    def flat(self, value: Expr) -> Expr:
        """`value` without bindings; what they bind is stored before."""
        rules = [(tirx.Let, self._bound), (Call, self._chosen), (tirx.Var, self._read)]
        return tvm_ffi.structural_map(value, rules, order="pre")

    def before(self, statement: Stmt) -> Stmt:
        """The statements so far, then `statement`."""
        return tirx.SeqStmt([*self._statements, statement]) if self._statements else statement

    def _bound(self, node: Any) -> Expr:
        """The body of a binding, whose own descendants are visited next."""
        while isinstance(node, tirx.Let):
            value = self.flat(node.value)
            self._slots[node.var] = slot = self._slot(node.var.name, value)
            self._statements.append(_store(slot, value))
            node = node.body
        return self._chosen(node) if isinstance(node, Call) else self._read(node)

    def _chosen(self, call: Any) -> Expr:
        """A choice that skips one side, where the sides bind values: a branch that stores the result."""
        if not call.op.same_as(_IF_THEN_ELSE) or not _has(call, tirx.Let):
            return call
        condition, result = self.flat(call.args[0]), self._slot("chosen", call)
        sides = []
        for side in call.args[1:]:
            place = _Place(self._slots)
            value = place.flat(side)
            sides.append(place.before(_store(result, value)))
        self._statements.append(tirx.IfThenElse(condition, *sides))
        return _load(result, call)

    def _read(self, variable: Any) -> Expr:
        slot = self._slots.get(variable) if isinstance(variable, tirx.Var) else None
        return variable if slot is None else _load(slot, variable)

    def _slot(self, name: str, value: Expr) -> Any:
        buffer = tirx.decl_buffer([1], _in_memory(value), name, scope="local")
        self._statements.append(tirx.AllocBuffer(buffer))
        return buffer


def _in_memory(value: Expr) -> str:
    """The dtype of a slot: vectors of bits have no memory of their own."""
    return str(value.ty.dtype).replace("bool", "int8")


def _store(slot: Any, value: Expr) -> Stmt:
    return tirx.BufferStore(slot, value.astype(_in_memory(value)), [_ZERO])


def _load(slot: Any, value: Expr) -> Expr:
    """What was stored for `value`."""
    return tirx.BufferLoad(slot, [_ZERO]).astype(str(value.ty.dtype))


_IF_THEN_ELSE = tvm.ir.Op.get("prim.if_then_else")

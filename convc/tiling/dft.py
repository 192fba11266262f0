"""Straight-line programs for short discrete Fourier transforms, with shared subexpressions.

A program is a list of real additions and multiplications by constants. It is built symbolically by the
mixed-radix Cooley-Tukey factorisation (decimation in time forward, in frequency backward), so that real
inputs and Hermitian spectra cost half of complex ones, and equal subexpressions are computed once; what no
wanted output needs is never emitted. Kernels run a program on vectors, one channel in each lane; tests and
error estimates run it on NumPy arrays.

Source: Cooley and Tukey 1965; Sorensen, Jones, Heideman and Burrus, "Real-valued fast Fourier transform
algorithms", IEEE TASSP 35(6), 1987. Generating programs this way is Frigo's genfft (PLDI 1999).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np

from convc.types import Array

T = TypeVar("T")

Real = int | None
"""A real value under construction: the number of its operation, or None for zero."""

Complex = tuple[Real, Real]


class Op(NamedTuple):
    """One operation. `kind` is "input" (number `a`), "add", "sub", "neg" or "mul" (by `factor`)."""

    kind: str
    a: int
    b: int = -1
    factor: float = 0.0


@dataclass(frozen=True)
class Program:
    """Operations in an order in which they can run, and the operation that each output is (None: zero)."""

    ops: tuple[Op, ...]
    outputs: tuple[Real, ...]

    def run(
        self,
        load: Callable[[int], T],
        store: Callable[[int, T | None], None],
        keep: Callable[[T], T] = lambda value: value,
    ) -> None:
        """Evaluate on anything that can be added and multiplied: expressions, vectors, arrays.

        `keep` is called on every value that is used more than once (to bind it to a variable). Each output
        is stored as soon as it is there; zeros are stored as None.
        """
        waiting: dict[int, list[int]] = {}
        for position, number in enumerate(self.outputs):
            if number is None:
                store(position, None)
            else:
                waiting.setdefault(number, []).append(position)
        values: list[Any] = []
        for number, op in enumerate(self.ops):
            value = _evaluate(op, values, load)
            values.append(keep(value) if self.uses[number] > 1 else value)
            for position in waiting.get(number, ()):
                store(position, values[number])

    def apply(self, inputs: Array) -> Array:
        """Evaluate on the first axis of an array, in its dtype: (inputs, ...) -> (outputs, ...)."""
        result = np.zeros((len(self.outputs), *inputs.shape[1:]), inputs.dtype)

        def store(position: int, value: Array | None) -> None:
            if value is not None:
                result[position] = value

        self.run(inputs.__getitem__, store)
        return result

    @cached_property
    def uses(self) -> tuple[int, ...]:
        """How often each operation's value is used, as an output included."""
        uses = [0] * len(self.ops)
        for operand in itertools.chain(*map(_operands, self.ops), self.outputs):
            if operand is not None:
                uses[operand] += 1
        return tuple(uses)

    @cached_property
    def loads(self) -> int:
        """Inputs that are read."""
        return sum(op.kind == "input" for op in self.ops)

    @cached_property
    def stores(self) -> int:
        """Outputs that are not zero."""
        return sum(output is not None for output in self.outputs)

    @cached_property
    def arithmetic(self) -> int:
        """Arithmetic instructions, where a multiplication used once in a sum fuses with the addition."""
        count = 0
        for op in self.ops:
            count += op.kind != "input"
            fusible = op.kind in ("add", "sub")
            count -= fusible and any(self.ops[i].kind == "mul" and self.uses[i] == 1 for i in (op.a, op.b))
        return count


def _evaluate(op: Op, values: Sequence[Any], load: Callable[[int], Any]) -> Any:
    if op.kind == "input":
        return load(op.a)
    a = values[op.a]
    if op.kind == "mul":
        return a * (a.dtype.type(op.factor) if isinstance(a, np.ndarray) else op.factor)
    if op.kind == "neg":
        return -a
    return a + values[op.b] if op.kind == "add" else a - values[op.b]


def _operands(op: Op) -> tuple[int, ...]:
    if op.kind == "input":
        return ()
    return (op.a, op.b) if op.kind in ("add", "sub") else (op.a,)


class _Builder:
    """Collects operations; equal ones get the same number, and signs are moved outwards."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.numbers: dict[Op, int] = {}

    def _op(self, op: Op) -> int:
        if op not in self.numbers:
            self.numbers[op] = len(self.ops)
            self.ops.append(op)
        return self.numbers[op]

    def input(self, index: int) -> int:
        return self._op(Op("input", index))

    def neg(self, x: Real) -> Real:
        if x is None:
            return None
        value, minus = self._split(x)
        return value if minus else self._op(Op("neg", value))

    def _split(self, x: int) -> tuple[int, bool]:
        """`x` without a leading minus, and whether it had one."""
        op = self.ops[x]
        return (op.a, True) if op.kind == "neg" else (x, False)

    def add(self, x: Real, y: Real) -> Real:
        """x + y. Sums and differences are kept in one order, with any sign outside."""
        if x is None or y is None:
            return y if x is None else x
        (x, minus_x), (y, minus_y) = sorted((self._split(x), self._split(y)))
        if x == y:
            total = None if minus_x != minus_y else self.mul(2.0, x)
        else:
            total = self._op(Op("sub" if minus_x != minus_y else "add", x, y))
        return self.neg(total) if minus_x else total

    def sub(self, x: Real, y: Real) -> Real:
        return self.add(x, self.neg(y))

    def mul(self, factor: float, x: Real) -> Real:
        """factor * x, with the sign outside and factors of factors multiplied out."""
        if x is None or factor == 0:
            return None
        x, minus = self._split(x)
        op = self.ops[x]
        if op.kind == "mul":
            return self.mul(-factor * op.factor if minus else factor * op.factor, op.a)
        product: Real = x if abs(factor) == 1 else self._op(Op("mul", x, factor=abs(factor)))
        return self.neg(product) if (factor < 0) != minus else product

    def rotate(self, z: Complex, turn: Fraction) -> Complex:
        """z * exp(2 pi i turn)."""
        re, im = z
        turn %= 1
        if turn >= Fraction(1, 2):
            re, im, turn = self.neg(re), self.neg(im), turn - Fraction(1, 2)
        if turn >= Fraction(1, 4):
            re, im, turn = self.neg(im), re, turn - Fraction(1, 4)
        if turn == 0:
            return re, im
        if turn == Fraction(1, 8):
            half = math.sqrt(0.5)
            return self.mul(half, self.sub(re, im)), self.mul(half, self.add(re, im))
        c, s = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
        return self.sub(self.mul(c, re), self.mul(s, im)), self.add(self.mul(s, re), self.mul(c, im))

    def sum(self, x: Complex, y: Complex) -> Complex:
        return self.add(x[0], y[0]), self.add(x[1], y[1])

    def difference(self, x: Complex, y: Complex) -> Complex:
        return self.sub(x[0], y[0]), self.sub(x[1], y[1])

    def conjugate(self, z: Complex) -> Complex:
        return z[0], self.neg(z[1])

    def butterfly(self, x: Sequence[Complex], sign: int) -> list[Complex]:
        """The transform of a prime number of values, or 4, with kernel exp(sign 2 pi i j k / n)."""
        if len(x) == 2:
            return [self.sum(*x), self.difference(*x)]
        if len(x) == 4:
            (a, b), (c, d) = self.butterfly(x[::2], sign), self.butterfly(x[1::2], sign)
            d = self.rotate(d, Fraction(sign, 4))
            return [self.sum(a, c), self.sum(b, d), self.difference(a, c), self.difference(b, d)]
        return self._odd(x, sign)

    def _odd(self, x: Sequence[Complex], sign: int) -> list[Complex]:
        n, half = len(x), range(1, len(x) // 2 + 1)
        sums = [self.sum(x[j], x[n - j]) for j in half]
        turns = [self.rotate(self.difference(x[j], x[n - j]), Fraction(sign, 4)) for j in half]
        out = [x[0]] * n
        for s in sums:
            out[0] = self.sum(out[0], s)
        for k in half:
            even, odd = x[0], self.difference(x[0], x[0])
            for j, s, d in zip(half, sums, turns, strict=True):
                angle = 2 * math.pi * (j * k % n) / n
                even = self.sum(even, (self.mul(math.cos(angle), s[0]), self.mul(math.cos(angle), s[1])))
                odd = self.sum(odd, (self.mul(math.sin(angle), d[0]), self.mul(math.sin(angle), d[1])))
            out[k], out[n - k] = self.sum(even, odd), self.difference(even, odd)
        return out

    def forward(self, x: Sequence[Complex]) -> list[Complex]:
        """sum_j x[j] exp(-2 pi i j k / n) for every k, by decimation in time."""
        n = len(x)
        radix = _radix(n)
        if n == 1:
            return list(x)
        parts, m = [self.forward(x[j::radix]) for j in range(radix)], n // radix
        real = all(z[1] is None for z in x)
        out: list[Complex] = [(None, None)] * n
        for k in range(m // 2 + 1 if real else m):
            twiddled = [self.rotate(part[k], Fraction(-j * k, n)) for j, part in enumerate(parts)]
            for q, y in enumerate(self.butterfly(twiddled, -1)):
                index = k + q * m
                if not real:
                    out[index] = y
                elif index <= n // 2:
                    out[index], out[-index] = y, self.conjugate(y)
                elif 2 * k % m:  # n - index is not among the butterfly's own outputs
                    out[index], out[n - index] = y, self.conjugate(y)
        if real:
            out[0] = (out[0][0], None)
            if n % 2 == 0:
                out[n // 2] = (out[n // 2][0], None)
        return out

    def backward(self, x: Sequence[Complex]) -> list[Complex]:
        """sum_k x[k] exp(2 pi i j k / n) for every j, by decimation in frequency."""
        n = len(x)
        if n == 1:
            return list(x)
        radix = _radix(n)
        m = n // radix
        parts: list[list[Complex]] = [[] for _ in range(radix)]
        for k in range(m):
            for j, z in enumerate(self.butterfly(x[k::m], 1)):
                parts[j].append(self.rotate(z, Fraction(j * k, n)))
        out: list[Complex] = [(None, None)] * n
        for j, part in enumerate(parts):
            out[j::radix] = self.backward(part)
        return out

    def backward_real(self, x: Sequence[Complex], n: int) -> list[Complex]:
        """As `backward` for a Hermitian spectrum of length n, of which x holds entries 0 to n // 2."""
        if n == 1:
            return [(x[0][0], None)]
        radix = _radix(n)
        m = n // radix
        parts: list[list[Complex]] = [[] for _ in range(radix)]
        for k in range(m // 2 + 1):
            spectrum = [x[i] if i <= n // 2 else self.conjugate(x[n - i]) for i in range(k, n, m)]
            for j, z in enumerate(self.butterfly(spectrum, 1)):
                turned = self.rotate(z, Fraction(j * k, n))
                parts[j].append((turned[0], None) if 2 * k in (0, m) else turned)
        out: list[Complex] = [(None, None)] * n
        for j, part in enumerate(parts):
            out[j::radix] = self.backward_real(part, m)
        return out

    def finish(self, outputs: Iterable[Real]) -> Program:
        """The program that computes `outputs` and nothing else.

        Operations stay in the order in which the factorisation makes them, one shorter transform after the
        other, so that few values are alive at a time; an input is read just before its first use.
        """
        wanted = list(outputs)
        needed: dict[int, Op] = {}
        waiting = [output for output in wanted if output is not None]
        while waiting:
            number = waiting.pop()
            if number not in needed:
                needed[number] = self._with_sign(number)
                waiting += _operands(needed[number])
        order: list[Op] = []
        place: dict[int, int] = {}

        def emit(number: int) -> None:
            if number not in place:
                op = needed[number]
                operands = _operands(op)
                for operand in operands:
                    emit(operand)
                place[number] = len(order)
                if operands:
                    where = [place[operand] for operand in operands]
                    op = Op(op.kind, where[0], where[1] if len(where) > 1 else -1, op.factor)
                order.append(op)

        for number in sorted(needed, key=lambda n: (needed[n].kind == "input", n)):
            emit(number)
        return Program(tuple(order), tuple(None if o is None else place[o] for o in wanted))

    def _with_sign(self, number: int) -> Op:
        """The operation, with a leading minus taken into the difference or product that it negates."""
        op = self.ops[number]
        if op.kind == "neg" and self.ops[op.a].kind == "sub":
            return Op("sub", self.ops[op.a].b, self.ops[op.a].a)
        if op.kind == "neg" and self.ops[op.a].kind == "mul":
            return self.ops[op.a]._replace(factor=-self.ops[op.a].factor)
        return op


def _radix(n: int) -> int:
    """4 where it divides n, else the smallest prime factor."""
    if n % 4 == 0:
        return 4
    return next((p for p in range(2, n + 1) if n % p == 0), 1)


@cache
def real_forward(n: int, given: int | None = None) -> Program:
    """n real inputs -> the real and imaginary parts, in turns, of frequencies 0 to n // 2.

    Of the inputs only the first `given` are read, by default all; the rest are zeros.
    """
    build = _Builder()
    inputs: list[Complex] = [(build.input(i), None) for i in range(n if given is None else given)]
    spectrum = build.forward(inputs + [(None, None)] * (n - len(inputs)))
    return build.finish(part for z in spectrum[: n // 2 + 1] for part in z)


@cache
def complex_forward(n: int, given: int | None = None) -> Program:
    """n complex inputs (real and imaginary parts in turns) -> n complex outputs.

    Of the inputs only the first `given` are read, by default all; the rest are zeros.
    """
    build = _Builder()
    inputs: list[Complex] = [
        (build.input(2 * i), build.input(2 * i + 1)) for i in range(n if given is None else given)
    ]
    spectrum = build.forward(inputs + [(None, None)] * (n - len(inputs)))
    return build.finish(part for z in spectrum for part in z)


@cache
def complex_backward(n: int, wanted: int) -> Program:
    """n complex inputs -> the first `wanted` outputs of the unscaled inverse transform."""
    build = _Builder()
    values = build.backward([(build.input(2 * i), build.input(2 * i + 1)) for i in range(n)])
    return build.finish(part for z in values[:wanted] for part in z)


@cache
def real_backward(n: int, wanted: int) -> Program:
    """Frequencies 0 to n // 2 (complex) -> the first `wanted` real outputs of the unscaled inverse transform.

    The imaginary parts of frequency 0 and, for even n, n / 2 are taken to be zero and never read.
    """
    build = _Builder()
    spectrum: list[Complex] = [(build.input(2 * i), build.input(2 * i + 1)) for i in range(n // 2 + 1)]
    for i in {0, n // 2} if n % 2 == 0 else {0}:
        spectrum[i] = (spectrum[i][0], None)
    return build.finish(z[0] for z in build.backward_real(spectrum, n)[:wanted])

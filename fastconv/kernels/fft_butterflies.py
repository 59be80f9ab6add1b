"""Small complex transforms on pairs (re, im) of vectors of independent signals, written with the emitter.

An *element* is one complex number of `lanes` signals at once::

    [re of lane 0 .. lanes-1][im of lane 0 .. lanes-1]        2 vectors, ELEMENT = 2*vector_nbytes bytes

so the butterflies need no shuffles.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from fastconv.kernels.simd import Emitter, Value

Complex = tuple[Value, Value]
Finish = Callable[[int, Complex], None]
#: Radices that are computed in one go.
SMALL = (1, 2, 3, 4, 5, 7)


class Butterflies:
    """Complex arithmetic of small transforms on pairs (re, im) of vectors, written with an emitter."""

    def __init__(self, e: Emitter) -> None:
        self.e, self.b = e, e.b

    def add(self, x: Complex, y: Complex) -> Complex:
        """Return x + y."""
        return self.b.fadd(x[0], y[0]), self.b.fadd(x[1], y[1])

    def sub(self, x: Complex, y: Complex) -> Complex:
        """Return x - y."""
        return self.b.fsub(x[0], y[0]), self.b.fsub(x[1], y[1])

    def twiddle(self, x: Complex, c: Value, s: Value) -> Complex:
        """Return x * (c - i s)."""
        e = self.e
        return e.fma(x[0], c, self.b.fmul(x[1], s)), e.fnma(x[0], s, self.b.fmul(x[1], c))

    def rotate(self, x: Complex, numerator: int, denominator: int) -> Complex:
        """Return x * exp(-2 pi i numerator/denominator)."""
        b, e = self.b, self.e
        eighths, rest = divmod(8 * (numerator % denominator), denominator)
        if rest:
            angle = 2 * math.pi * (numerator % denominator) / denominator
            return self.twiddle(x, e.splat_const(math.cos(angle)), e.splat_const(math.sin(angle)))
        if eighths % 2:
            k = e.splat_const(math.sqrt(0.5))
            x = b.fmul(k, b.fadd(x[0], x[1])), b.fmul(k, b.fsub(x[1], x[0]))
        for _ in range(eighths // 2):
            x = x[1], b.fneg(x[0])
        return x

    def transform(self, v: Sequence[Complex], finish: Finish | None = None) -> list[Complex]:
        """Return the transform of the values `v`, in natural order.

        `v` may load a value when it is indexed, and ``finish(k, value)`` may store one as soon as it is there: the
        order of the instructions is what keeps large radices from spilling.
        """
        out = self._transform(v, finish)
        if finish is not None and len(v) in SMALL:
            for k, value in enumerate(out):
                finish(k, value)
        return out

    def _transform(self, v: Sequence[Complex], finish: Finish | None) -> list[Complex]:
        r = len(v)
        if r == 1:
            return [v[0]]
        if r == 2:
            x, y = v[0], v[1]
            return [self.add(x, y), self.sub(x, y)]
        if r == 4:
            x, y = v[0], v[2]
            a, d = self.add(x, y), self.sub(x, y)
            x, y = v[1], v[3]
            c, f = self.add(x, y), self.sub(x, y)
            return [
                self.add(a, c), (self.b.fadd(d[0], f[1]), self.b.fsub(d[1], f[0])),
                self.sub(a, c), (self.b.fsub(d[0], f[1]), self.b.fadd(d[1], f[0])),
            ]  # fmt: skip
        if r in {3, 5, 7}:
            return self._odd_prime(v)
        r1 = {6: 3, 8: 2, 9: 3, 10: 5, 12: 3, 15: 3, 16: 4}[r]
        return self._coprime(v, r1, finish) if math.gcd(r1, r // r1) == 1 else self._mixed(v, r1, finish)

    def _odd_prime(self, values: Sequence[Complex]) -> list[Complex]:
        e, b, r = self.e, self.b, len(values)
        v = [values[j] for j in range(r)]
        half = range(1, r // 2 + 1)
        sums = {j: self.add(v[j], v[r - j]) for j in half}
        differences = {j: self.sub(v[j], v[r - j]) for j in half}
        out: list[Any] = [None] * r
        out[0] = functools.reduce(self.add, sums.values(), v[0])
        for k in half:
            even, odd = v[0], None
            for j in half:
                c = e.splat_const(math.cos(2 * math.pi * (j * k % r) / r))
                s = e.splat_const(math.sin(2 * math.pi * (j * k % r) / r))
                even = e.fma(c, sums[j][0], even[0]), e.fma(c, sums[j][1], even[1])
                d = differences[j]
                odd = (b.fmul(s, d[0]), b.fmul(s, d[1])) if odd is None else (e.fma(s, d[0], odd[0]), e.fma(s, d[1], odd[1]))
            out[k] = b.fadd(even[0], odd[1]), b.fsub(even[1], odd[0])  # type: ignore[index]
            out[r - k] = b.fsub(even[0], odd[1]), b.fadd(even[1], odd[0])  # type: ignore[index]
        return out

    def _coprime(self, v: Sequence[Complex], r1: int, finish: Finish | None) -> list[Complex]:
        """Good and Thomas: n = r2*n1 + r1*n2 and the Chinese remainders of k need no twiddles between the two."""
        r = len(v)
        r2 = r // r1
        inner = [self.transform([v[(r2 * n1 + r1 * n2) % r] for n1 in range(r1)]) for n2 in range(r2)]
        out: list[Any] = [None] * r
        for k1 in range(r1):
            column = self.transform([inner[n2][k1] for n2 in range(r2)])
            for k2 in range(r2):
                (k,) = (k for k in range(r) if k % r1 == k1 and k % r2 == k2)
                out[k] = column[k2]
                if finish is not None:
                    finish(k, column[k2])
        return out

    def _mixed(self, v: Sequence[Complex], r1: int, finish: Finish | None) -> list[Complex]:
        """Cooley and Tukey: columns, twiddles, rows."""
        r = len(v)
        r2 = r // r1
        inner = []
        for n2 in range(r2):
            column = self.transform([v[n1 * r2 + n2] for n1 in range(r1)])
            inner.append([self.rotate(column[k1], n2 * k1, r) for k1 in range(r1)])
        out: list[Any] = [None] * r
        for k1 in range(r1):
            row = self.transform([inner[n2][k1] for n2 in range(r2)])
            for k2 in range(r2):
                out[k1 + r1 * k2] = row[k2]
                if finish is not None:
                    finish(k1 + r1 * k2, row[k2])
        return out


def element_nbytes(e: Emitter) -> int:
    """Return the bytes of an element."""
    return 2 * e.lanes * e.nbytes


def load_element(e: Emitter, address: Value, *, swapped: bool = False) -> Complex:
    """Load (re, im), or (im, re)."""
    p = e.ptr(address)
    width = e.lanes * e.nbytes
    re, im = e.load(p, width), e.load(e.offset(p, e.lanes), width)
    return (im, re) if swapped else (re, im)


def store_element(e: Emitter, x: Complex, address: Value, *, swapped: bool = False) -> None:
    """Store (re, im), or (im, re)."""
    p = e.ptr(address)
    width = e.lanes * e.nbytes
    e.store(x[swapped], p, width)
    e.store(x[not swapped], e.offset(p, e.lanes), width)


class Lazy(Sequence[Complex]):
    """Values that are loaded when they are first asked for."""

    def __init__(self, count: int, load: Callable[[int], Complex]) -> None:
        self.values: list[Complex | None] = [None] * count
        self.load = load

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        value = self.values[index]
        if value is None:
            value = self.values[index] = self.load(index)
        return value

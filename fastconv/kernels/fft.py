"""Generated FFT stages that work on vectors of independent signals, and 1-D transforms made of them.

An *element* is one complex number of `lanes` signals at once::

    [re of lane 0 .. lanes-1][im of lane 0 .. lanes-1]        2 vectors, ELEMENT = 2*vector_nbytes bytes

so the butterflies need no shuffles. Forward transforms decimate in frequency and leave the digits of the frequency
reversed (`frequencies` says which frequency stands where); inverse ones decimate in time and take them so, hence
nothing is ever reordered. The inverse is the forward transform with real and imaginary parts swapped on loads and
stores, which costs nothing; it is not scaled.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.kernels._jit import jit
from fastconv.kernels.fft_memory import word
from fastconv.kernels.function_pointers import address_intrinsic, call_function
from fastconv.kernels.simd import Emitter, Value, i64, new_function
from fastconv.kernels.spec import spec_array

#: Radices of the stages, with the measured cost of a stage per element relative to radix 4: from 8 on they spill.
RADICES: dict[int, float] = {2: 1.0, 3: 1.0, 4: 1.0, 5: 2.1, 6: 1.4, 8: 1.75, 9: 3.0, 12: 2.4, 16: 3.0}
#: Lengths of tiles, the product of at most this many radices.
MAX_STAGES = 4
MAX_LENGTH = 512
#: Where the stages stand in the table of `stages`, and how many numbers each takes.
FIRST_STAGE, STAGE_FIELDS = 2, 3

Complex = tuple[Value, Value]
Finish = Callable[[int, Complex], None]
#: Radices that are computed in one go.
SMALL = (1, 2, 3, 4, 5, 7)


# ---- which stages, in which order, with which twiddles


@functools.cache
def factorize(n: int) -> tuple[int, ...] | None:
    """Return the radices of the cheapest transform of length `n`, largest first, or None if there is none."""
    best: tuple[float, tuple[int, ...]] | None = None

    def search(rest: int, limit: int, chosen: tuple[int, ...], cost: float) -> None:
        nonlocal best
        if rest == 1:
            if best is None or cost < best[0]:
                best = (cost, chosen)
            return
        if len(chosen) == MAX_STAGES:
            return
        for radix, weight in RADICES.items():
            if radix <= limit and rest % radix == 0:
                search(rest // radix, radix, (*chosen, radix), cost + weight)

    search(n, max(RADICES), (), 0.0)
    return None if best is None else best[1]


@functools.cache
def lengths() -> tuple[int, ...]:
    """Return every length up to `MAX_LENGTH` that the stages can make."""
    return tuple(n for n in range(1, MAX_LENGTH + 1) if factorize(n) is not None)


@functools.cache
def stage_cost(n: int) -> float:
    """Return the cost of a transform of length `n` per element, in radix-4 stages."""
    factors = factorize(n)
    return math.inf if factors is None else sum(RADICES[r] for r in factors)


def frequencies(n: int) -> npt.NDArray[np.int64]:
    """Return the frequency that stands at each position after a forward transform of length `n`."""

    def order(length: int, factors: tuple[int, ...]) -> list[int]:
        if not factors:
            return [0]
        r, inner = factors[0], order(length // factors[0], factors[1:])
        return [q + r * f for q in range(r) for f in inner]

    return np.array(order(n, factorize(n) or ()), np.int64)


def twiddles(n: int, dtype: Any) -> npt.NDArray[Any]:
    """Return (cos, sin) of 2 pi j q / L for the stages of length `n`: [stage][j < L/r][0 < q < r][2], rounded once."""
    out, length = [np.zeros(0)], n
    for r in factorize(n) or ():
        j, q = np.arange(length // r)[:, np.newaxis], np.arange(1, r)
        angle = 2 * np.pi * (j * q % length) / length
        out.append(np.stack([np.cos(angle), np.sin(angle)], -1).ravel())
        length //= r
    return np.concatenate(out).astype(dtype)


# ---- butterflies


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


def _distances(e: Emitter, radix: int, start: Value, far: tuple[Value, ...]) -> list[Value]:
    """Return start + q*far for q < radix, each a base plus an index of the addressing modes; `far` is (1, 2, 3, 4) times it."""
    out, base = [], start
    for q in range(radix):
        if q and q % 4 == 0:
            base = e.b.add(base, far[3])
        out.append(e.b.add(base, far[q % 4 - 1]) if q % 4 else base)
    return out


def _turn(f: Butterflies, x: Complex, table: Value, q: int) -> Complex:
    """Return x times the twiddle of output `q`, from the row of the table at `table`."""
    if q == 0:
        return x
    p = f.e.offset(f.e.ptr(table), 2 * (q - 1))
    return f.twiddle(x, f.e.broadcast(p), f.e.broadcast(f.e.offset(p, 1)))


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


def build_stage(module: Value, element: str, radix: int, inverse: int) -> Value:
    """Write one stage of a transform; return its LLVM function.

    Arguments, steps in bytes between elements: ``src, src_step, dst, dst_step, lr, blocks, tw``. For block b, j < lr:
    the elements ``b*radix*lr + q*lr + j`` (q < radix) are transformed over q, times exp(-2 pi i j q / (radix*lr))
    after the transform (forward) or conjugate before (inverse); j = 0 has no twiddles. In place if src is dst.
    Aligned to vectors. `tw` is the address of [j][q - 1][cos, sin].
    """
    function, b = new_function(module, f"fft_stage_{element}_{radix}_{inverse}", 7)
    if b is None:
        return function
    e = Emitter(module, b, element)
    f = Butterflies(e)
    src, src_step, dst, dst_step, lr, blocks, tw = function.args
    src_far, dst_far = (tuple(b.mul(b.mul(step, lr), i64(q)) for q in (1, 2, 3, 4)) for step in (src_step, dst_step))
    swapped = bool(inverse)
    tw_step = i64(2 * (radix - 1) * e.nbytes)

    def butterfly(at: Value, to: Value, table: Value | None) -> None:
        def turn(q: int, x: Complex) -> Complex:
            return x if table is None else _turn(f, x, table, q)

        sources, targets = _distances(e, radix, at, src_far), _distances(e, radix, to, dst_far)

        def load(q: int) -> Complex:
            x = load_element(e, sources[q], swapped=swapped)
            return turn(q, x) if inverse else x

        def store(q: int, x: Complex) -> None:
            store_element(e, x if inverse else turn(q, x), targets[q], swapped=swapped)

        f.transform(Lazy(radix, load), store)

    def block(i: Value, carried: list[Value]) -> list[Value]:  # noqa: ARG001
        at, to = carried
        butterfly(at, to, None)

        def turn(j: Value, inner: list[Value]) -> list[Value]:  # noqa: ARG001
            butterfly(*inner)
            return [b.add(inner[0], src_step), b.add(inner[1], dst_step), b.add(inner[2], tw_step)]

        e.loop(b.sub(lr, i64(1)), [b.add(at, src_step), b.add(to, dst_step), b.add(tw, tw_step)], turn, "turn")
        return [b.add(at, b.mul(src_far[0], i64(radix))), b.add(to, b.mul(dst_far[0], i64(radix)))]

    e.loop(blocks, [src, dst], block, "block")
    b.ret_void()
    return function


def build_taking_stage(module: Value, element: str, radix: int, _: int) -> Value:
    """Write a first forward stage that reads re and im from two places, vectors at any alignment.

    Arguments: ``one, one_step, two, two_step, dst, dst_step, lr, tw``; otherwise as `build_stage`, of one block.
    """
    function, b = new_function(module, f"fft_taking_{element}_{radix}", 8)
    if b is None:
        return function
    e = Emitter(module, b, element)
    f = Butterflies(e)
    one, one_step, two, two_step, dst, dst_step, lr, tw = function.args
    one_far, two_far, dst_far = (tuple(b.mul(b.mul(step, lr), i64(q)) for q in (1, 2, 3, 4)) for step in (one_step, two_step, dst_step))

    def butterfly(at: Value, other: Value, to: Value, table: Value | None) -> None:
        ones, twos, targets = (_distances(e, radix, x, far) for x, far in ((at, one_far), (other, two_far), (to, dst_far)))

        def store(q: int, x: Complex) -> None:
            store_element(e, x if table is None else _turn(f, x, table, q), targets[q])

        f.transform(Lazy(radix, lambda q: (e.load(e.ptr(ones[q])), e.load(e.ptr(twos[q])))), store)

    butterfly(one, two, dst, None)
    steps = (one_step, two_step, dst_step, i64(2 * (radix - 1) * e.nbytes))

    def turn(j: Value, inner: list[Value]) -> list[Value]:  # noqa: ARG001
        butterfly(*inner)
        return [b.add(x, step) for x, step in zip(inner, steps, strict=True)]

    e.loop(b.sub(lr, i64(1)), [b.add(x, step) for x, step in zip((one, two, dst, tw), steps, strict=True)], turn, "turn")
    b.ret_void()
    return function


def build_middle(module: Value, element: str, radix: int, _: int) -> Value:
    """Write the last forward stage, the product with a spectrum, and the first inverse stage, as one.

    Arguments: ``at, blocks, u``: blocks of `radix` neighbouring elements, in place, times the elements at `u`.
    """
    function, b = new_function(module, f"fft_middle_{element}_{radix}", 3)
    if b is None:
        return function
    e = Emitter(module, b, element)
    f = Butterflies(e)
    start, blocks, u = function.args
    nbytes = element_nbytes(e)

    def block(i: Value, carried: list[Value]) -> list[Value]:  # noqa: ARG001
        at, spectrum = carried
        turned: list[Any] = [None] * radix

        def multiply(q: int, x: Complex) -> None:
            ur, ui = load_element(e, b.add(spectrum, i64(q * nbytes)))
            turned[q] = (e.fma(x[0], ui, b.fmul(x[1], ur)), e.fnma(x[1], ui, b.fmul(x[0], ur)))

        def store(q: int, x: Complex) -> None:
            store_element(e, x, b.add(at, i64(q * nbytes)), swapped=True)

        f.transform(Lazy(radix, lambda q: load_element(e, b.add(at, i64(q * nbytes)))), multiply)
        f.transform(turned, store)
        return [b.add(at, i64(radix * nbytes)), b.add(spectrum, i64(radix * nbytes))]

    e.loop(blocks, [start, u], block, "block")
    b.ret_void()
    return function


_address = address_intrinsic(build_stage)
_middle = address_intrinsic(build_middle)
_taking = address_intrinsic(build_taking_stage)


@jit
def _stage_address(spec):  # type: ignore[no-untyped-def]
    return _address(spec)


@jit
def _middle_address(spec):  # type: ignore[no-untyped-def]
    return _middle(spec)


@jit
def _taking_address(spec):  # type: ignore[no-untyped-def]
    return _taking(spec)


def taking_stage(n: int, element: str) -> int:
    """Return the address of the first stage of length `n` that reads from two places (`build_taking_stage`)."""
    address: int = _taking_address(spec_array(element, (factorize(n) or (1,))[0], 0))
    return address


def middle(n: int, element: str) -> int:
    """Return the address of the fused middle (`build_middle`) for the last stage of length `n`."""
    address: int = _middle_address(spec_array(element, (factorize(n) or (1,))[-1], 0))
    return address


def stages(n: int, element: str) -> npt.NDArray[np.int64]:
    """Return what `forward` and `inverse` want to know of a length: (n, stages), then per stage (radix, addresses of both functions).

    The functions of a radix are compiled when first asked for, and only then.
    """
    factors = factorize(n) or ()
    table = [n, len(factors)]
    for radix in factors:
        table += [radix, *(_stage_address(spec_array(element, radix, way)) for way in (0, 1))]
    return np.array(table, np.int64)


@jit
def forward(like, plan, tw, src, src_step, dst, dst_step, moves_first):  # type: ignore[no-untyped-def]
    """Transform the elements at `src` into `dst` (may be the same), frequencies in the order of `frequencies`.

    With `moves_first` the first stage goes to `dst` and the others work there; else all but the last work on `src`,
    which is destroyed. The faster of two memories should be the one that is worked on.

    Parameters
    ----------
    like : array
        Its dtype picks the element type.
    plan : int
        Address of the `stages` of the length.
    tw : int
        Address of its `twiddles`.
    src, src_step, dst, dst_step : int
        Addresses and distances of elements in bytes, aligned to vectors; not checked here.
    """
    _forward_from(like, plan, tw, src, src_step, dst, dst_step, moves_first, np.int64(0))


@jit
def _forward_from(like, plan, tw, src, src_step, dst, dst_step, moves_first, begin):  # type: ignore[no-untyped-def]
    """Run the stages from number `begin` on."""
    length, blocks = word(plan, 0), 1
    size = like.itemsize
    count = word(plan, 1)
    for i in range(count):
        at = plan + 8 * (FIRST_STAGE + STAGE_FIELDS * i)
        radix = word(at, 0)
        lr = length // radix
        if i >= begin:
            moves = moves_first or i == count - 1
            call_function(word(at, 1), src, src_step, dst if moves else src, dst_step if moves else src_step, lr, blocks, tw)
            if moves:
                src, src_step = dst, dst_step
        tw += 2 * (radix - 1) * lr * size
        blocks *= radix
        length = lr


@jit
def forward_taken(like, plan, taking, tw, one, one_step, two, two_step, column, column_step, dst, dst_step):  # type: ignore[no-untyped-def]
    """Transform ``one[i] + i two[i]``, vectors of reals at any alignment, into `dst`; `column` is scratch for the elements.

    `taking` is the address of the first stage (`taking_stage`); the other parameters are as in `forward`.
    """
    radix = word(plan, FIRST_STAGE)
    lr = word(plan, 0) // radix
    if word(plan, 1) == 1:
        call_function(taking, one, one_step, two, two_step, dst, dst_step, lr, tw)
        return
    call_function(taking, one, one_step, two, two_step, column, column_step, lr, tw)
    _forward_from(like, plan, tw, column, column_step, dst, dst_step, moves_first=False, begin=np.int64(1))


@jit
def inverse(like, plan, tw, src, src_step, dst, dst_step, moves_first):  # type: ignore[no-untyped-def]
    """Transform back, unscaled, from digit-reversed frequencies. Parameters as in `forward`.

    With `moves_first` the first stage goes to `dst` and the others work there; else all but the last work on `src`,
    which is destroyed. The faster of two memories should be the one that is worked on.
    """
    size = like.itemsize
    lr = word(plan, 0)
    for i in range(word(plan, 1)):
        radix = word(plan, FIRST_STAGE + STAGE_FIELDS * i)
        lr //= radix
        tw += 2 * (radix - 1) * lr * size
    blocks = word(plan, 0)
    for k in range(word(plan, 1)):
        at = FIRST_STAGE + STAGE_FIELDS * (word(plan, 1) - 1 - k)
        radix = word(plan, at)
        blocks //= radix
        tw -= 2 * (radix - 1) * lr * size
        moves = moves_first or k == word(plan, 1) - 1
        call_function(word(plan, at + 2), src, src_step, dst if moves else src, dst_step if moves else src_step, lr, blocks, tw)
        if moves:
            src, src_step = dst, dst_step
        lr *= radix


@jit
def filtered(like, plan, middle_function, tw, at, step, u):  # type: ignore[no-untyped-def]
    """Transform the elements at `at`, multiply them with those at `u`, transform back: all in place, at least one stage."""
    size = like.itemsize
    length, blocks = word(plan, 0), 1
    count = word(plan, 1)
    for i in range(count - 1):
        radix = word(plan, FIRST_STAGE + STAGE_FIELDS * i)
        lr = length // radix
        call_function(word(plan, FIRST_STAGE + STAGE_FIELDS * i + 1), at, step, at, step, lr, blocks, tw)
        tw += 2 * (radix - 1) * lr * size
        blocks *= radix
        length = lr
    call_function(middle_function, at, blocks, u)
    for k in range(1, count):
        field = FIRST_STAGE + STAGE_FIELDS * (count - 1 - k)
        radix = word(plan, field)
        lr = length
        blocks //= radix
        tw -= 2 * (radix - 1) * lr * size
        call_function(word(plan, field + 2), at, step, at, step, lr, blocks, tw)
        length = lr * radix

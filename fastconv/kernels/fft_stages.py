"""Generated FFT stages on vectors of independent signals, and the table by which the transforms of a length call them.

Elements as in `fastconv.kernels.fft_butterflies`; addresses and steps in bytes, aligned to vectors, nothing is checked.
Forward transforms decimate in frequency, with twiddles after the butterflies; inverse ones in time, with twiddles before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.kernels._jit import jit
from fastconv.kernels.fft_butterflies import Butterflies, Complex, Lazy, element_nbytes, load_element, store_element
from fastconv.kernels.fft_lengths import factorize
from fastconv.kernels.function_pointers import address_intrinsic
from fastconv.kernels.simd import Emitter, Value, i64, new_function
from fastconv.kernels.spec import spec_array

#: How many vectors ahead the rows of an image in memory are asked for: a CPU foresees rows, not columns.
AHEAD = 4


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


def build_taking_stage(module: Value, element: str, radix: int, reads_ahead: int) -> Value:
    """Write a first forward stage that reads re and im from two places, vectors at any alignment, and turns them.

    Arguments: ``one, two, step, dst, dst_step, lr, tw, roots, groups, dst_group``; otherwise as `build_stage`, of one block.
    Number i is ``one[i] + i two[i]`` times the conjugate of number i at `roots`, (cos, sin) each. So for `groups` vectors that
    lie side by side in the source, their results `dst_group` bytes apart: each butterfly takes them one after the other, as
    vectors at any alignment share cache lines with their neighbours, and the rows of an image may all fall on the same sets.
    With `reads_ahead` the vectors `AHEAD` further on are asked for.
    """
    function, b = new_function(module, f"fft_taking_{element}_{radix}_{reads_ahead}", 10)
    if b is None:
        return function
    e = Emitter(module, b, element)
    f = Butterflies(e)
    one, two, step, dst, dst_step, lr, tw, roots, groups, dst_group = function.args
    root_step = i64(2 * e.nbytes)
    far, dst_far, root_far = (tuple(b.mul(b.mul(x, lr), i64(q)) for q in (1, 2, 3, 4)) for x in (step, dst_step, root_step))

    def butterfly(at: Value, other: Value, to: Value, root: Value, table: Value | None) -> None:
        ones, twos, targets, turns = (
            _distances(e, radix, x, distance) for x, distance in ((at, far), (other, far), (to, dst_far), (root, root_far))
        )

        def load(q: int) -> Complex:
            p = e.ptr(turns[q])
            sources = e.ptr(ones[q]), e.ptr(twos[q])
            for source in sources if reads_ahead else ():
                e.prefetch(e.offset(source, AHEAD * e.lanes), locality=2)
            return f.twiddle((e.load(sources[0]), e.load(sources[1])), e.broadcast(p), e.broadcast(e.offset(p, 1)))

        def store(q: int, x: Complex) -> None:
            store_element(e, x if table is None else _turn(f, x, table, q), targets[q])

        f.transform(Lazy(radix, load), store)

    def neighbours(at: Value, other: Value, to: Value, root: Value, table: Value | None) -> None:
        def group(i: Value, carried: list[Value]) -> list[Value]:  # noqa: ARG001
            here, there, target = carried
            butterfly(here, there, target, root, table)
            return [b.add(x, distance) for x, distance in zip(carried, (width, width, dst_group), strict=True)]

        width = i64(e.lanes * e.nbytes)
        e.loop(groups, [at, other, to], group, "group")

    neighbours(one, two, dst, roots, None)
    steps = (step, step, dst_step, root_step, i64(2 * (radix - 1) * e.nbytes))

    def turn(j: Value, inner: list[Value]) -> list[Value]:  # noqa: ARG001
        neighbours(*inner)
        return [b.add(x, distance) for x, distance in zip(inner, steps, strict=True)]

    starts = (one, two, dst, roots, tw)
    e.loop(b.sub(lr, i64(1)), [b.add(x, distance) for x, distance in zip(starts, steps, strict=True)], turn, "turn")
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
def _stage_addresses(forward, inverse):  # type: ignore[no-untyped-def]
    return _address(forward), _address(inverse)


@jit
def _middle_address(spec):  # type: ignore[no-untyped-def]
    return _middle(spec)


@jit
def _taking_address(spec):  # type: ignore[no-untyped-def]
    return _taking(spec)


def taking_stage(n: int, element: str, *, reads_ahead: bool) -> int:
    """Return the address of the first stage of length `n` that reads from two places (`build_taking_stage`)."""
    address: int = _taking_address(spec_array(element, (factorize(n) or (1,))[0], int(reads_ahead)))
    return address


def middle(n: int, element: str) -> int:
    """Return the address of the fused middle (`build_middle`) for the last stage of length `n`."""
    address: int = _middle_address(spec_array(element, (factorize(n) or (1,))[-1], 0))
    return address


def stages(n: int, element: str) -> npt.NDArray[np.int64]:
    """Return what the transforms want to know of a length.

    (n, number of stages), then per stage (radix, addresses of the forward and of the inverse function, offset in bytes
    of its `twiddles`). The functions of a radix are compiled when first asked for, and only then.
    """
    factors = factorize(n) or ()
    table, length, offset = [n, len(factors)], n, 0
    for radix in factors:
        length //= radix
        table += [radix, *_stage_addresses(spec_array(element, radix, 0), spec_array(element, radix, 1)), offset]
        offset += 2 * (radix - 1) * length * np.dtype(element).itemsize
    return np.array(table, np.int64)

"""The generator for depthwise convolutions of small planes: the sums of a whole plane stay in registers.

Where a row of the result takes half a vector or less, a vector holds several rows, which are neighbours in memory. All
vectors of the result of one plane are summed at once, kernel column by kernel column, so that a weight is loaded once for all
of them, and a source vector, moved to the kernel's column, once for all the kernel's rows that read it::

    plane of 7 x 7, VL = 16             sums of the result          source of kernel column kw
    |0 0 0 0 0 0 0 1 1 1 1 1 1 1 . .|   rows 0 and 1                rows -1 and 0, 0 and 1, 1 and 2, ... moved by kw - pw
    |2 2 2 2 2 2 2 3 3 3 3 3 3 3 . .|   rows 2 and 3                columns outside and rows outside are lanes of zeros
    |4 4 4 4 4 4 4 5 5 5 5 5 5 5 . .|   rows 4 and 5
    |6 6 6 6 6 6 6 . . . . . . . . .|   row 6

Which element of the plane stands in which lane is known when the kernel is written, so that a source vector is one masked load,
or a load and a choice of lanes. With strides it is a shuffle of one or two loads; then all of the kernel's columns of a source row
follow each other, so that it is loaded once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

from fastconv.kernels.epilogue import emit_epilogue
from fastconv.kernels.planar_source import SourceRows
from fastconv.kernels.planar_spec import ACTIVATION, BIAS, RESIDUAL
from fastconv.kernels.simd import Value, new_function
from fastconv.kernels.target import Target

#: An element of a plane per lane, None = padding.
Elements = tuple[int | None, ...]
#: Independent sums that hide the latency of two multiply-add units.
INDEPENDENT_SUMS = 8
#: Loads that a source vector is made from at most.
MOST_WINDOWS = 2
#: More products of vectors than this are not written out.
MOST_PRODUCTS = 1200


class Vector(NamedTuple):
    """What a vector of the result holds: `width` columns from `column` on, of `rows` rows from `row` on."""

    row: int
    rows: int
    column: int
    width: int


class PlanesSpec(NamedTuple):
    """What a kernel of small planes is compiled for.

    Attributes
    ----------
    ih, iw, oh, ow : int
        Source and result.
    kh, kw, sh, sw, dh, dw : int
        Kernel, strides, dilations.
    ph, pw : int
        Padding above and to the left.
    rows : int
        Rows of the result in a vector, 1 where a row takes several.
    skips : int
        1 if rows of padding are left out: right where all weights are finite.
    epilogue : int
        Sum of `BIAS`, `RESIDUAL` and `ACTIVATION`.
    """

    ih: int
    iw: int
    oh: int
    ow: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    ph: int
    pw: int
    rows: int
    skips: int
    epilogue: int

    @property
    def split(self) -> int:
        """Rows are read in place."""
        return 0

    def vectors(self, lanes: int) -> list[Vector]:
        """Return the vectors of the result: whole rows, or parts of one of which the last may overlap the one before."""
        columns = sorted({min(c, max(0, self.ow - lanes)) for c in range(0, self.ow, lanes)})
        width = min(self.ow, lanes)
        return [Vector(row, min(self.rows, self.oh - row), c, width) for row in range(0, self.oh, self.rows) for c in columns]

    def elements(self, vector: Vector, kh: int, kw: int, lanes: int) -> Elements:
        """Return which element of the plane stands in each lane of what a vector of the result reads; None = padding."""
        found: list[int | None] = []
        for lane in range(lanes):
            r, c = divmod(lane, vector.width)
            row, column = (vector.row + r) * self.sh + kh * self.dh - self.ph, (vector.column + c) * self.sw + kw * self.dw - self.pw
            is_inside = r < self.rows and 0 <= row < self.ih and 0 <= column < self.iw
            found.append(row * self.iw + column if is_inside else None)
        return tuple(found)

    def is_left_out(self, vector: Vector, kh: int) -> bool:
        """Tell whether a row of the kernel meets nothing but padding in all rows of a vector."""
        return bool(self.skips) and not any(0 <= (vector.row + r) * self.sh + kh * self.dh - self.ph < self.ih for r in range(vector.rows))

    @property
    def by_columns(self) -> bool:
        """Whether sums are made kernel column by kernel column, not source row by source row."""
        return self.sw == 1

    def sources(self, vectors: list[Vector]) -> int:
        """Return how many registers source vectors that live at once and a weight take beside the sums of some vectors."""
        if not self.by_columns:
            return MOST_WINDOWS + 2
        uses = [[kh for _, _, kh in served] for served in self.rows_read(vectors)]
        return max(sum(min(at) <= kh <= max(at) for at in uses) for kh in range(self.kh)) + 1

    def sets(self, vectors: list[Vector], registers: int) -> int:
        """Return how many sums there are of each vector, as far as the registers suffice: few wait for one another."""
        count = len(vectors)
        return max(1, min(self.kh, -(-INDEPENDENT_SUMS // count), (registers - self.sources(vectors)) // count))

    def rows_read(self, vectors: list[Vector]) -> list[list[tuple[int, Vector, int]]]:
        """Return what each row of the source serves: (index of a vector, vector, row of the kernel)."""
        served: dict[tuple[int, int], list[tuple[int, Vector, int]]] = {}
        for i, v in enumerate(vectors):
            for kh in range(self.kh):
                if not self.is_left_out(v, kh):
                    served.setdefault((v.row * self.sh + kh * self.dh, v.column), []).append((i, v, kh))
        return [served[key] for key in sorted(served)]

    def window(self, vector: Vector, kh: int, lanes: int) -> list[int]:
        """Return the starts of the loads of what a vector reads for all the kernel's columns."""
        return windows([e for kw in range(self.kw) for e in self.elements(vector, kh, kw, lanes)], lanes)

    def can_be_loaded(self, lanes: int) -> bool:
        """Tell whether each source vector is made from few loads: those with rows of padding from no more than others."""
        inner = self._replace(ih=1 << 30, ph=0)
        vectors = [v for v in inner.vectors(lanes) if v.row == 0]
        if not self.by_columns:
            return all(len(inner.window(v, 0, lanes)) <= MOST_WINDOWS for v in vectors)
        return all(len(windows(inner.elements(v, 0, kw, lanes), lanes)) <= MOST_WINDOWS for v in vectors for kw in range(self.kw))

    def products(self, lanes: int) -> int:
        """Return how many products of vectors are summed."""
        return sum(not self.is_left_out(v, kh) for v in self.vectors(lanes) for kh in range(self.kh)) * self.kw


def windows(elements: Iterable[int | None], lanes: int) -> list[int]:
    """Return the starts of the runs of `lanes` elements that hold all these."""
    starts: list[int] = []
    for element in sorted(e for e in elements if e is not None):
        if not starts or element >= starts[-1] + lanes:
            starts.append(element)
    return starts


def fitted(spec: PlanesSpec, itemsize: int, target: Target) -> PlanesSpec | None:
    """Return the spec with as many rows in a vector as can be loaded; None where a kernel cannot be written."""
    lanes = target.lanes(itemsize)
    # Without masks, rows of several vectors gain nothing over tiles of rows.
    is_wide = spec.ow > lanes and not target.has_masks
    if not target.folds_loads or is_wide or spec.oh * spec.ow * spec.kh * spec.kw > MOST_PRODUCTS * lanes:
        return None
    for rows in range(max(1, min(lanes // spec.ow, spec.oh)), 0, -1):
        found = spec._replace(rows=rows)
        if found.can_be_loaded(lanes):
            is_small = found._replace(skips=0).products(lanes) <= MOST_PRODUCTS
            return found if is_small and parts_of_plane(found, lanes, target) else None
    return None


def parts_of_plane(spec: PlanesSpec, lanes: int, target: Target) -> list[list[Vector]]:
    """Return the vectors of a plane in as few parts as the registers allow: the same whether rows of padding are left out or not."""
    spec = spec._replace(skips=0)
    vectors = spec.vectors(lanes)
    for count in range(1, len(vectors) + 1):
        cuts = [len(vectors) * i // count for i in range(count + 1)]
        parts = [vectors[low:high] for low, high in itertools.pairwise(cuts)]
        if all(len(part) + spec.sources(part) <= target.registers for part in parts):
            return parts
    return []


class _Planes(SourceRows):
    """Writes the body of one kernel."""

    spec: Any

    def __init__(
        self, module: Value, builder: Value, element: str, spec: PlanesSpec, arguments: tuple[Value, ...], target: Target | None
    ) -> None:
        geometry, *starts, rows, _, self.planes = arguments
        super().__init__(module, builder, element, spec, geometry, rows, target)  # type: ignore[arg-type]
        self.starts = [self.ptr(a) for a in starts]
        self.parts = parts_of_plane(spec, self.lanes, self.target)

    def load_elements(self, plane: Value, elements: Elements) -> Value:
        """Load the elements of a plane that stand in a vector; zeros where there are none."""
        inside = [(lane, e) for lane, e in enumerate(elements) if e is not None]
        shifts = {e - lane for lane, e in inside}
        if len(shifts) == 1:
            start = shifts.pop()
            place = self.offset(plane, start)
            is_within = start >= 0 and start + self.lanes <= self.spec.ih * self.spec.iw
            if is_within and not self.target.has_masks:
                return self.b.select(self._lanes_of(elements), self.load(place), self.zero())
            return self.load(place) if len(inside) == self.lanes else self.masked_load(place, self._lanes_of(elements))
        return self.picked(self.load_windows(plane, windows(elements, self.lanes), elements), elements)

    def load_windows(self, plane: Value, starts: list[int], elements: Iterable[int | None]) -> dict[int, Value]:
        """Load the vectors that begin at some elements, of what lies behind the plane's end nothing."""
        stop = 1 + max((e for e in elements if e is not None), default=0)
        size = self.spec.ih * self.spec.iw
        places = {start: self.offset(plane, start) for start in starts}
        return {s: self.load(at) if s + self.lanes <= size else self.load_first(at, stop - s) for s, at in places.items()}

    def picked(self, loaded: dict[int, Value], elements: Elements) -> Value:
        """Return the vector of elements from the loads, at most two, that hold them."""
        if all(e is None for e in elements):
            return self.zero()
        first, second = min(loaded), max(loaded)
        low, high = loaded[first], loaded[second]
        if first == second:
            return self.shuffle(low, self.zero(), [self.lanes if e is None else e - first for e in elements])
        mixed = self.shuffle(low, high, [0 if e is None else e - first if e < second else self.lanes + e - second for e in elements])
        return self.b.select(self._lanes_of(elements), mixed, self.zero()) if None in elements else mixed

    def _lanes_of(self, elements: Elements) -> Value:
        return self.mask(e is not None for e in elements)

    def add_columns(self, vectors: list[Vector], src: Value, weights: Value, sums: list[Any]) -> None:
        """Add all products, kernel column by kernel column."""
        spec, count = self.spec, len(vectors)
        for kw in range(spec.kw):
            # Loads of one column are not to be merged with those of another: the registers would not suffice.
            plane, taps = self.launder(src), self.launder(weights)
            loaded: dict[Elements, Value] = {}
            for kh in range(spec.kh):
                served = [(i, spec.elements(v, kh, kw, self.lanes)) for i, v in enumerate(vectors) if not spec.is_left_out(v, kh)]
                weight = self.broadcast(self.offset(taps, kh * spec.kw + kw)) if served else None
                for v, elements in served:
                    if elements not in loaded:
                        loaded[elements] = self.load_elements(plane, elements)
                    self._add(sums, kh * count % len(sums) + v, weight, loaded[elements])

    def add_rows(self, vectors: list[Vector], src: Value, weights: Value, sums: list[Any]) -> None:
        """Add all products, source row by source row, of which each is loaded once."""
        spec, count, lanes = self.spec, len(vectors), self.lanes
        keeps = spec.kh * spec.kw + len(sums) + MOST_WINDOWS + 1 <= self.target.registers
        for turn, served in enumerate(spec.rows_read(vectors)):
            _, vector, kh = served[0]
            columns = [spec.elements(vector, kh, kw, lanes) for kw in range(spec.kw)]
            loaded = self.load_windows(src, spec.window(vector, kh, lanes), itertools.chain(*columns))
            taps = weights if keeps else self.launder(weights)
            for kw, elements in enumerate(columns):
                x = self.picked(loaded, elements)
                for v, _, kh in served:
                    self._add(sums, turn * count % len(sums) + v, self.broadcast(self.offset(taps, kh * spec.kw + kw)), x)

    def _add(self, sums: list[Any], i: int, weight: Value, x: Value) -> None:
        sums[i] = self.times(weight, x) if sums[i] is None else self.fma(weight, x, sums[i])

    def sums_of(self, vectors: list[Vector], src: Value, weights: Value) -> list[Value]:
        """Return the sums of some vectors of a plane."""
        count = len(vectors)
        sums: list[Any] = [None] * (self.spec.sets(vectors, self.target.registers) * count)
        (self.add_columns if self.spec.by_columns else self.add_rows)(vectors, src, weights, sums)
        total = sums[:count]
        for start in range(count, len(sums), count):
            more = sums[start : start + count]
            total = [a if b is None else b if a is None else self.plus(a, b) for a, b in zip(total, more, strict=True)]
        return [self.zero() if value is None else value for value in total]

    def finish(self, vectors: list[Vector], values: list[Value], pointers: list[Value]) -> None:
        """Apply the epilogue and store some vectors of a plane."""
        spec = self.spec
        dst, bias, residual = pointers
        if spec.epilogue & BIAS:
            term = self.broadcast(bias)
            values = [self.plus(value, term) for value in values]
        places = [v.row * spec.ow + v.column for v in vectors]
        counts = [v.rows * v.width for v in vectors]
        if spec.epilogue & RESIDUAL:
            added = [self.load_first(self.offset(residual, at), count) for at, count in zip(places, counts, strict=True)]
            values = [self.plus(value, term) for value, term in zip(values, added, strict=True)]
        if spec.epilogue & ACTIVATION:
            values = emit_epilogue(self, values, code=self.g["activation"], limits=self.g["limits"])
        for value, at, count in zip(values, places, counts, strict=True):
            self.store_first(value, self.offset(dst, at), count) if count < self.lanes else self.store(value, self.offset(dst, at))

    def write(self) -> None:
        """Write the whole function."""
        steps = [self.g[step] for step in ("src_step", "weights_step", "dst_step", "bias_step", "residual_step")]

        def plane(_: Value, pointers: list[Value]) -> list[Value]:
            for part in self.parts:
                self.finish(part, self.sums_of(part, pointers[0], pointers[1]), pointers[2:])
            return [self.offset_nbytes(p, step) for p, step in zip(pointers, steps, strict=True)]

        self.loop(self.planes, self.starts, plane, "plane")
        self.b.ret_void()


def build_planes(module: Value, element: str, *values: int, target: Target | None = None) -> Value:
    """Write the kernel of ``PlanesSpec(*values)``.

    Arguments of the function, all i64, as those of `fastconv.kernels.planar.build_planar`: address of the geometry, addresses
    of source, weights, result, bias and residual, two that are not looked at, number of planes.

    Notes
    -----
    dst[p, i, j] = sum over r, s of src[p, i*sh + r*dh - ph, j*sw + s*dw - pw] * weights[p, r, s], then the epilogue; what lies
    outside of a plane is 0. 2*planes*OH*OW*KH*KW flops, of which rows of padding are left out where `skips` says so; source and
    weights are read once from memory, the result is written once. Not checked here: that the rows of a plane of source, result
    and residual follow each other without a gap, and that each source vector lies within two vectors of the plane.
    """
    function, builder = new_function(module, "planes_" + "_".join(map(str, (element, *values))), 9)
    if builder is not None:
        _Planes(module, builder, element, PlanesSpec(*values), function.args, target).write()
    return function

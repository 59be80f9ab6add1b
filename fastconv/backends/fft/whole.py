"""FFT convolution through `scipy.fft`: any size, any dtype that it can do exactly or in floating point."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.backends.base import Algorithm, Work, workspace_limit
from fastconv.backends.fft.accuracy import integer_reason, normwise_bound
from fastconv.backends.fft.geometry import AxisTiles, candidate_tiles, tile_positions
from fastconv.errors import UnsupportedProblem
from fastconv.kernels.epilogue import apply_epilogue
from fastconv.machine import Machine
from fastconv.plans import Plan
from fastconv.problem import ConvProblem

#: Share of the FMA peak that scipy.fft reaches (flops counted as 5 N log2 N), and that NumPy's products reach.
FFT_EFFICIENCY = 0.15
PRODUCT_EFFICIENCY = 0.02
#: Largest spectra of the weights that a plan keeps if no limit is given; beyond, they are computed in each call.
SPECTRA_NBYTES = 256 * 2**20
#: Index arrays and the like, beside the planes and spectra.
SMALL_ARRAYS_NBYTES = 64 * 2**10
#: What Python and NumPy take for a block beside its points, in flops at the peak: 0.1 ms at 40 GFLOP/s.
BLOCK_FLOPS = 4e6
#: Tile lengths looked at along an axis.
CANDIDATES = 24


@functools.lru_cache(maxsize=4096)
def smooth_length(n: int) -> int:
    """Return the smallest length >= n with prime factors 2, 3 and 5 only."""
    best = 1 << max(n - 1, 0).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            length = three << max(-(-n // three) - 1, 0).bit_length()
            best = min(best, length)
            three *= 3
        five *= 5
    return best


@dataclass(frozen=True)
class _Tiling:
    """Two axes of tiles and how many channels are in work at once."""

    rows: AxisTiles
    cols: AxisTiles
    icb: int
    ocb: int
    keeps_spectra: bool
    nbytes: int
    spectra_nbytes: int

    @property
    def tiles(self) -> int:
        return self.rows.count * self.cols.count

    @property
    def points(self) -> int:
        return self.rows.length * self.cols.length

    def __str__(self) -> str:
        spectra = f"kept ({self.spectra_nbytes} bytes)" if self.keeps_spectra else "computed in each call"
        return (
            f"{self.tiles} tile{'s' * (self.tiles > 1)} of {self.rows.length}x{self.cols.length} points, spectra of the weights {spectra}"
        )


def _dense_outputs(p: ConvProblem) -> tuple[int, int]:
    return (p.oh - 1) * p.sh + 1, (p.ow - 1) * p.sw + 1


def _spans(p: ConvProblem) -> tuple[int, int]:
    return p.dh * (p.kh - 1) + 1, p.dw * (p.kw - 1) + 1


def _axis_candidates(index: Any, outputs: int, span: int) -> list[AxisTiles]:
    used = index[: outputs + span - 1]
    longest = smooth_length(len(used))
    ratio = (longest / span) ** (1 / CANDIDATES)
    lengths = {smooth_length(math.ceil(span * ratio**i)) for i in range(CANDIDATES + 1)}
    length = smooth_length(max(outputs, span))
    while length < longest:  # lengths at which one circular tile may do
        lengths.add(length)
        length = smooth_length(length + 1)
    return candidate_tiles(used, outputs, span, sorted(lengths | {longest}))


def _tiling(p: ConvProblem, limit: int, spectra_limit: int) -> _Tiling | None:
    """Return the tiling of least modelled work whose buffers fit into `limit` bytes."""
    best, least = None, math.inf
    outs, spans = _dense_outputs(p), _spans(p)
    for rows in _axis_candidates(p.row_index(), outs[0], spans[0]):
        for cols in _axis_candidates(p.col_index(), outs[1], spans[1]):
            tiling = _fit(p, rows, cols, limit, spectra_limit)
            if tiling is not None and (cost := _flops(p, tiling) + _blocks(p, tiling) * BLOCK_FLOPS) < least:
                best, least = tiling, cost
    return best


def _default_tiling(p: ConvProblem) -> _Tiling | None:
    """Return the tiling without a limit of workspace, within the default one if possible."""
    return _tiling(p, workspace_limit(p, None), SPECTRA_NBYTES) or _tiling(p, 1 << 62, SPECTRA_NBYTES)


def _fit(p: ConvProblem, rows: AxisTiles, cols: AxisTiles, limit: int, spectra_limit: int) -> _Tiling | None:
    """Return the tiling with as many channels at once as `limit` allows, or None if not even one fits."""
    icg, ocg = p.ic // p.g, p.oc // p.g
    part = 4 if p.dtype in {"float32", "complex64"} else 8
    points = rows.length * cols.length
    spectrum = rows.length * (cols.length if p.is_complex else cols.length // 2 + 1) * 2 * part
    plane = points * part * (2 if p.is_complex else 1)
    kept = p.oc * icg * spectrum
    keeps = kept <= spectra_limit
    room = limit - SMALL_ARRAYS_NBYTES
    icb, ocb = icg, ocg
    while True:
        # Tile planes (with a temporary), their spectra (with pocketfft's copy); products, results; weights' spectra.
        nbytes = icb * (3 * plane + 2 * spectrum) + ocb * (3 * spectrum + 2 * plane)
        if not keeps:
            nbytes += ocb * icb * (2 * plane + 2 * spectrum)
        if nbytes <= room:
            return _Tiling(rows, cols, icb, ocb, keeps, nbytes + SMALL_ARRAYS_NBYTES, kept)
        if icb == ocb == 1:
            return None
        if icb >= ocb:
            icb = -(-icb // 2)
        else:
            ocb = -(-ocb // 2)


def _blocks(p: ConvProblem, t: _Tiling) -> int:
    """Return how often a call gathers, transforms and stores a tile of some channels."""
    return t.tiles * p.mb * p.g * -(-(p.oc // p.g) // t.ocb)


def _flops(p: ConvProblem, t: _Tiling) -> float:
    """Modelled cost of a call in flops at the machine's peak."""
    half = 1.0 if p.is_complex else 0.5
    icg, ocg = p.ic // p.g, p.oc // p.g
    transform = 5 * t.points * math.log2(t.points) * half
    again = -(-ocg // t.ocb)
    calls = t.tiles * p.mb
    count = calls * (p.ic * again + p.oc) + (0 if t.keeps_spectra else calls * p.oc * icg)
    return count * transform / FFT_EFFICIENCY + calls * p.oc * icg * 8 * t.points * half / PRODUCT_EFFICIENCY


class WholeFFT(Algorithm):
    """y = F^-1( sum over c of F(x tile)_c * F(reversed w)_c ), tiles by overlap-save or one for the whole image.

    Stride: computed densely, every s-th kept. Dilation: dilated kernels. Circular borders need no padding if one
    tile covers the image.
    """

    name = "fft:whole"
    rounding = "normwise"
    accuracy = "standard"
    dtypes = (
        "float32", "float64", "complex64", "complex128",
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    )  # fmt: skip
    summary = "FFT through scipy.fft, large tiles or the whole image: kernels of any size"
    needs_compiler = False

    def why_not(self, problem: ConvProblem) -> str | None:
        """Return the reason for integers that may not come out exact, else None."""
        if (reason := self.dtype_reason(problem)) is not None:
            return reason
        return integer_reason(problem, _largest_points(problem)) if problem.is_integer else None

    def work(self, problem: ConvProblem, machine: Machine) -> Work:  # noqa: ARG002
        """Return the transforms' and products' flops at the rates of scipy.fft and NumPy."""
        t = _default_tiling(problem)
        if t is None:
            return Work(flops=math.inf, nbytes=math.inf)
        p = problem
        kernels = p.oc * p.ic // p.g * 2.5 * t.points * math.log2(t.points) / FFT_EFFICIENCY
        return Work(
            flops=_flops(p, t), nbytes=p.x_nbytes + p.out_nbytes + t.tiles * p.mb * 2 * t.spectra_nbytes, calls=12 * _blocks(p, t),
            setup_flops=kernels, setup_nbytes=2 * t.spectra_nbytes, parallelism=1,
        )  # fmt: skip

    def workspace_nbytes(self, problem: ConvProblem, threads: int, max_workspace: int | None) -> int | None:
        """Return the buffers of a tile; see `Algorithm.workspace_nbytes`."""
        del threads
        tiling = _tiling(problem, workspace_limit(problem, max_workspace), SPECTRA_NBYTES if max_workspace is None else max_workspace)
        return None if tiling is None else tiling.nbytes

    def remark(self, problem: ConvProblem) -> str:
        """Return the tiles that a plan takes."""
        return str(_default_tiling(problem) or self.summary)

    def error_bound(self, problem: ConvProblem, x: Array, w: Array) -> Array:
        """Return the norm-wise bound; 0 for integers, which are rounded to the exact result."""
        if problem.is_integer:
            return np.zeros(problem.out_shape)
        return normwise_bound(problem, x, w, _largest_points(problem))

    def make_plan(
        self, problem: ConvProblem, w: Array, bias: Array | None = None, *, threads: int = 1, max_workspace: int | None = None
    ) -> Plan:
        """Choose tiles that fit into the workspace and transform the weights."""
        limit = workspace_limit(problem, max_workspace)
        tiling = _tiling(problem, limit, SPECTRA_NBYTES if max_workspace is None else max_workspace)
        if tiling is None:
            smallest = min(_smallest_nbytes(problem))
            raise UnsupportedProblem(
                f"backend {self.name!r} cannot compute {problem}: its smallest tile takes {smallest} bytes of workspace, "
                f"max_workspace is {limit}."
            )
        return _WholePlan(self.name, problem, w, bias, threads, tiling)


def _largest_points(p: ConvProblem) -> int:
    """Points of one tile for the whole padded image: no tiling uses a larger one."""
    outs, spans = _dense_outputs(p), _spans(p)
    return smooth_length(outs[0] + spans[0] - 1) * smooth_length(outs[1] + spans[1] - 1)


def _smallest_nbytes(p: ConvProblem) -> Iterator[int]:
    outs, spans = _dense_outputs(p), _spans(p)
    for rows in _axis_candidates(p.row_index(), outs[0], spans[0]):
        for cols in _axis_candidates(p.col_index(), outs[1], spans[1]):
            lean = _fit(p.replace(ic=p.g, oc=p.g), rows, cols, 1 << 62, 0)
            if lean is not None:
                yield lean.nbytes


class _WholePlan(Plan):
    def __init__(self, backend: str, problem: ConvProblem, w: Array, bias: Array | None, threads: int, tiling: _Tiling) -> None:
        p, t = problem, tiling
        kept = t.spectra_nbytes if t.keeps_spectra else 0
        super().__init__(
            backend, p, threads=threads, workspace_nbytes=t.nbytes, packed_nbytes=w.nbytes + kept,
            description=str(t),
        )  # fmt: skip
        self._tiling = tiling
        self._w = w
        self._bias = bias
        (fh, fw), (span_h, span_w) = _dense_outputs(p), _spans(p)
        self._rows = p.row_index()[: fh + span_h - 1]
        self._cols = p.col_index()[: fw + span_w - 1]
        self._compute = np.dtype(np.float64 if p.is_integer else p.dtype)
        self._spectra = self._weight_spectra(slice(0, p.oc), slice(0, p.ic // p.g)) if t.keeps_spectra else None

    def _weight_spectra(self, oc: slice, ic: slice) -> Array:
        """Return F of the weights reversed in position, modulo the tile: a correlation becomes a product."""
        p, t = self.problem, self._tiling
        part = self._w[oc, ic]
        planes = np.zeros((*part.shape[:2], t.rows.length, t.cols.length), self._compute)
        rows = -np.arange(p.kh) * p.dh % t.rows.length
        cols = -np.arange(p.kw) * p.dw % t.cols.length
        planes[:, :, rows[:, np.newaxis], cols] = part
        return self._forward(planes)

    # scipy.fft's `workers` are not used: its pool ends and restarts when any thread of the process forks, and a transform
    # that another thread is in then fails and leaves tasks that write where it no longer is. They saved a fifth at most.
    def _forward(self, planes: Array) -> Array:
        import scipy.fft  # noqa: PLC0415  heavy: only when an FFT runs

        out: Array = scipy.fft.fft2(planes) if self.problem.is_complex else scipy.fft.rfft2(planes)
        return out

    def _inverse(self, spectra: Array) -> Array:
        import scipy.fft  # noqa: PLC0415

        t = self._tiling
        if self.problem.is_complex:
            out: Array = scipy.fft.ifft2(spectra, overwrite_x=True)
        else:
            out = scipy.fft.irfft2(spectra, s=(t.rows.length, t.cols.length), overwrite_x=True)
        return out

    def execute(self, x: Array, residual: Array | None, out: Array) -> None:
        p, t = self.problem, self._tiling
        icg, ocg = p.ic // p.g, p.oc // p.g
        with np.errstate(all="ignore"):
            for ty in range(t.rows.count):
                rows = tile_positions(self._rows, t.rows, ty)
                for tx in range(t.cols.count):
                    cols = tile_positions(self._cols, t.cols, tx)
                    for n in range(p.mb):
                        for g in range(p.g):
                            for o in range(0, ocg, t.ocb):
                                oc = slice(g * ocg + o, g * ocg + min(o + t.ocb, ocg))
                                self._tile(x[n, g * icg : (g + 1) * icg], oc, rows, cols, out[n, oc], ty, tx)
            apply_epilogue(out, self._bias, residual, p.activation)

    def _tile(self, x: Array, oc: slice, rows: Array, cols: Array, out: Array, ty: int, tx: int) -> None:
        """Compute one tile of output channels `oc` from the channels `x` of one image and group."""
        p, t = self.problem, self._tiling
        icg = x.shape[0]
        total = np.zeros((1,), self._compute)
        for c in range(0, icg, t.icb):
            ic = slice(c, min(c + t.icb, icg))
            spectra = self._forward(self._gather(x[ic], rows, cols))
            weights = self._weight_spectra(oc, ic) if self._spectra is None else self._spectra[oc, ic]
            product = np.einsum("chw,ochw->ohw", spectra, weights)
            total = product if c == 0 else np.add(total, product, out=total)
        y = self._inverse(total)
        i0, j0 = -(-ty * t.rows.step // p.sh), -(-tx * t.cols.step // p.sw)
        i1 = min(-(-(ty + 1) * t.rows.step // p.sh), p.oh)
        j1 = min(-(-(tx + 1) * t.cols.step // p.sw), p.ow)
        top, left = i0 * p.sh - ty * t.rows.step, j0 * p.sw - tx * t.cols.step
        y = y[:, top : t.rows.step : p.sh, left : t.cols.step : p.sw][:, : max(i1 - i0, 0), : max(j1 - j0, 0)]
        target = out[:, i0:i1, j0:j1]
        if p.is_integer:
            np.rint(y, out=y)
            target[...] = y.astype(np.int64)
            return
        target[...] = y
        broken = np.isfinite(y)
        np.logical_not(broken, out=broken)
        if broken.any():
            self._define(x, oc, target, broken, i0, j0)

    def _gather(self, planes: Array, rows: Array, cols: Array) -> Array:
        """Return the tile of each plane, borders filled, positions that nothing reads zero."""
        tile = np.empty((planes.shape[0], len(rows), len(cols)), self._compute)
        for plane, part in zip(planes, tile, strict=True):  # borders, which are negative, clip to 0
            part[...] = plane.take(rows, axis=0, mode="clip").take(cols, axis=1, mode="clip")
        tile[:, rows == -1] = self.problem.padding_value
        tile[:, :, cols == -1] = self.problem.padding_value
        tile[:, rows == -2] = 0
        tile[:, :, cols == -2] = 0
        return tile

    def _define(self, x: Array, oc: slice, target: Array, broken: Array, i0: int, j0: int) -> None:
        """Compute the outputs marked in `broken` by the definition: their tile met a NaN, an infinity or an overflow."""
        p = self.problem
        for k in range(target.shape[0]):
            i, j = np.nonzero(broken[k])
            if not len(i):
                continue
            values = np.zeros(len(i), self._compute)
            for c, r, s in np.ndindex(*p.w_shape[1:]):
                rows, cols = self._rows[(i + i0) * p.sh + r * p.dh], self._cols[(j + j0) * p.sw + s * p.dw]
                read = x[c, rows, cols]
                read[(rows < 0) | (cols < 0)] = p.padding_value
                values += read * self._w[oc.start + k, c, r, s]
            target[k, i, j] = values

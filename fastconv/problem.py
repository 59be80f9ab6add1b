"""`ConvProblem`: one convolution request as a frozen value, without arrays. Validated once, then trusted."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.errors import DTypeError, ShapeError
from fastconv.kernels.borders import PADDING_MODES, source_index

#: The dtypes that fastconv computes in; float16 is stored as such and computed in float32.
DTYPES = (
    "float16", "float32", "float64", "complex64", "complex128",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
#: Activations by name; a (low, high) pair clamps.
ACTIVATIONS = ("relu", "relu6", "silu", "sigmoid", "tanh", "gelu")
_INTEGER_ACTIVATIONS = ("relu", "relu6")

_GEOMETRY = re.compile(
    r"g(?P<g>\d+)mb(?P<mb>\d+)ic(?P<ic>\d+)ih(?P<ih>\d+)iw(?P<iw>\d+)oc(?P<oc>\d+)kh(?P<kh>\d+)kw(?P<kw>\d+)"
    r"sh(?P<sh>\d+)sw(?P<sw>\d+)ph(?P<ph_lo>\d+)(?:_(?P<ph_hi>\d+))?pw(?P<pw_lo>\d+)(?:_(?P<pw_hi>\d+))?dh(?P<dh>\d+)dw(?P<dw>\d+)"
)


@dataclass(frozen=True, slots=True)
class ConvProblem:
    """What is to be computed: geometry, dtype, borders and epilogue of one convolution.

    Attributes
    ----------
    g : int
        Groups.
    mb, ic, ih, iw : int
        Batch, input channels, height and width of the source, which is seen as (N, C, H, W).
    oc, kh, kw : int
        Output channels, kernel height and width; the weights are (OC, IC/G, KH, KW).
    sh, sw : int
        Strides.
    ph_lo, ph_hi, pw_lo, pw_hi : int
        Padding on top, at the bottom, on the left and on the right.
    dh, dw : int
        Dilations, 1 = dense.
    dtype : str
        NumPy name of the dtype of source, weights and result.
    padding_mode : str
        One of "zeros", "constant", "reflect", "symmetric", "replicate", "circular".
    padding_value : int, float or complex
        What "constant" pads with; 0 in every other mode.
    has_bias, has_residual : bool
        Whether a bias per output channel and an array of the result's shape are added.
    activation : None, str or (low, high)
        Applied last.
    channels_last : bool
        Whether source and result lie in memory as (N, H, W, C): decides cost, not the result.

    Notes
    -----
    `str` gives the problem string, for example ``g1mb1ic64ih56iw56oc64kh3kw3sh1sw1ph1pw1dh1dw1:float32``
    (unequal pads as ``ph0_1``; then the padding mode, ``bias``, ``residual``, the activation and ``NHWC`` where
    they differ from the default); `ConvProblem.parse` reads it back.
    """

    g: int
    mb: int
    ic: int
    ih: int
    iw: int
    oc: int
    kh: int
    kw: int
    sh: int = 1
    sw: int = 1
    ph_lo: int = 0
    ph_hi: int = 0
    pw_lo: int = 0
    pw_hi: int = 0
    dh: int = 1
    dw: int = 1
    dtype: str = "float32"
    padding_mode: str = "zeros"
    padding_value: complex = 0
    has_bias: bool = False
    has_residual: bool = False
    activation: str | tuple[float, float] | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_fit("height", self.ih, self.kh, self.dh, self.ph_lo, self.ph_hi)
        self._check_fit("width", self.iw, self.kw, self.dw, self.pw_lo, self.pw_hi)
        if self.dtype not in DTYPES:
            raise DTypeError(f"the dtype must be one of {', '.join(DTYPES)}; got {self.dtype}. Convert the arrays with astype.")
        if self.padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {', '.join(map(repr, PADDING_MODES))}; got {self.padding_mode!r}.")
        object.__setattr__(self, "padding_value", self._checked_padding_value())
        object.__setattr__(self, "activation", self._checked_activation())

    # ---- validation

    def _check_counts(self) -> None:
        for name, least in (("g", 1), ("mb", 0), ("ic", 1), ("ih", 1), ("iw", 1), ("oc", 1), ("kh", 1), ("kw", 1)):
            if getattr(self, name) < least:
                words = {
                    "g": "groups", "mb": "the batch size", "ic": "the number of input channels", "ih": "the height of x",
                    "iw": "the width of x", "oc": "the number of output channels", "kh": "the kernel height", "kw": "the kernel width",
                }  # fmt: skip
                raise ShapeError(f"{words[name]} must be at least {least}; got {getattr(self, name)}.")
        for word, values in (("stride", (self.sh, self.sw)), ("dilation", (self.dh, self.dw))):
            if min(values) < 1:
                raise ValueError(f"{word} must be at least 1 along each axis; got {values}.")
        pads = ((self.ph_lo, self.ph_hi), (self.pw_lo, self.pw_hi))
        if min(map(min, pads)) < 0:
            raise ValueError(f"padding must not be negative; got {pads}. Crop x by slicing instead.")
        if self.ic % self.g or self.oc % self.g:
            raise ShapeError(f"groups must divide the input and the output channels; got groups = {self.g} with {self.ic} and {self.oc}.")

    @staticmethod
    def _check_fit(axis: str, n: int, k: int, d: int, lo: int, hi: int) -> None:
        span = d * (k - 1) + 1
        if span > n + lo + hi:
            raise ShapeError(
                f"the kernel does not fit along {axis}: it spans dilation*(k-1)+1 = {d}*({k}-1)+1 = {span}, "
                f"but the padded input has {lo}+{n}+{hi} = {lo + n + hi}. Increase padding or use a smaller kernel."
            )

    def _checked_padding_value(self) -> complex:
        value = self.padding_value
        if self.padding_mode != "constant":
            if value != 0:
                raise ValueError(
                    f"padding_value is used with padding_mode='constant' only; got padding_value = {value} "
                    f"with padding_mode={self.padding_mode!r}."
                )
            return 0
        dtype = np.dtype(self.dtype)
        if dtype.kind != "c" and isinstance(value, complex | np.complexfloating):
            raise ValueError(f"padding_value must be real for {self.dtype}; got {value}.")
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            if not (np.isfinite(value) and value == int(value.real) and limits.min <= value.real <= limits.max):
                raise ValueError(f"padding_value must be an integer from {limits.min} to {limits.max} for {self.dtype}; got {value}.")
            return int(value.real)
        return complex(value) if dtype.kind == "c" else float(value.real)

    def _checked_activation(self) -> str | tuple[float, float] | None:
        act, kind = self.activation, np.dtype(self.dtype).kind
        if act is None:
            return None
        if isinstance(act, str):
            if act not in ACTIVATIONS:
                names = ", ".join(map(repr, ACTIVATIONS))
                raise ValueError(f"activation must be None, one of {names}, or a pair (low, high); got {act!r}.")
        else:
            try:
                low, high = act
                ordered = bool(low <= high)
            except (TypeError, ValueError):
                ordered = False
            if not ordered:
                raise ValueError(f"activation as a clamp must be a pair (low, high) with low <= high; got {act!r}.")
        if kind == "c":
            raise DTypeError(f"activation {act!r} is not defined for {self.dtype}. Apply it to the result's parts instead.")
        if kind in "iu":
            if isinstance(act, str):
                if act not in _INTEGER_ACTIVATIONS:
                    raise DTypeError(f"activation {act!r} needs a floating dtype; got {self.dtype}. Convert x or w with astype.")
                return act
            limits = np.iinfo(self.dtype)
            return (int(max(act[0], limits.min)), int(min(act[1], limits.max)))
        return act if isinstance(act, str) else (float(act[0]), float(act[1]))

    # ---- derived numbers

    @property
    def oh(self) -> int:
        """Height of the result."""
        return (self.ih + self.ph_lo + self.ph_hi - self.dh * (self.kh - 1) - 1) // self.sh + 1

    @property
    def ow(self) -> int:
        """Width of the result."""
        return (self.iw + self.pw_lo + self.pw_hi - self.dw * (self.kw - 1) - 1) // self.sw + 1

    @property
    def reduction(self) -> int:
        """Products per output element, K = IC/G*KH*KW."""
        return self.ic // self.g * self.kh * self.kw

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """Shape of the source as (N, IC, IH, IW)."""
        return (self.mb, self.ic, self.ih, self.iw)

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        """Shape of the weights as (OC, IC/G, KH, KW)."""
        return (self.oc, self.ic // self.g, self.kh, self.kw)

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """Shape of the result as (N, OC, OH, OW)."""
        return (self.mb, self.oc, self.oh, self.ow)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the definition."""
        return self.mb * self.oc * self.oh * self.ow * self.reduction

    @property
    def flops(self) -> int:
        """Floating-point operations of the definition, 2*macs (8*macs for complex)."""
        return self.macs * (8 if self.is_complex else 2)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return np.dtype(self.dtype).itemsize

    @property
    def x_nbytes(self) -> int:
        """Bytes of the source."""
        return math.prod(self.x_shape) * self.itemsize

    @property
    def w_nbytes(self) -> int:
        """Bytes of the weights."""
        return math.prod(self.w_shape) * self.itemsize

    @property
    def out_nbytes(self) -> int:
        """Bytes of the result."""
        return math.prod(self.out_shape) * self.itemsize

    @property
    def is_complex(self) -> bool:
        """Whether the dtype is complex."""
        return self.dtype.startswith("complex")

    @property
    def is_integer(self) -> bool:
        """Whether the dtype is an integer, computed exactly and wrapping."""
        return np.dtype(self.dtype).kind in "iu"

    @property
    def is_depthwise(self) -> bool:
        """Whether each input channel is a group of its own."""
        return self.g == self.ic and self.g > 1

    @property
    def has_padding(self) -> bool:
        """Whether any border is padded."""
        return bool(self.ph_lo or self.ph_hi or self.pw_lo or self.pw_hi)

    @property
    def pads_with_zeros(self) -> bool:
        """Whether padding, if any, reads zeros."""
        return not self.has_padding or (self.padding_mode in {"zeros", "constant"} and self.padding_value == 0)

    def row_index(self) -> npt.NDArray[np.int64]:
        """Return the source row of each padded row, -1 for the padding value."""
        return source_index(self.ih, self.ph_lo, self.ph_hi, self.padding_mode)

    def col_index(self) -> npt.NDArray[np.int64]:
        """Return the source column of each padded column, -1 for the padding value."""
        return source_index(self.iw, self.pw_lo, self.pw_hi, self.padding_mode)

    def replace(self, **changes: Any) -> ConvProblem:
        """Return a copy with some attributes changed, validated anew."""
        return replace(self, **changes)

    # ---- the problem string

    def __str__(self) -> str:
        return _to_string(self)

    @classmethod
    def parse(cls, text: str) -> ConvProblem:
        """Return the problem that `text`, a problem string, names.

        Raises
        ------
        ValueError
            If the string does not follow the form shown in the class docstring.

        Examples
        --------
        >>> p = ConvProblem.parse("g1mb1ic64ih56iw56oc64kh3kw3sh1sw1ph1pw1dh1dw1:float32")
        >>> p.out_shape
        (1, 64, 56, 56)
        >>> str(p)
        'g1mb1ic64ih56iw56oc64kh3kw3sh1sw1ph1pw1dh1dw1:float32'
        """
        geometry, *words = text.strip().split(":")
        match = _GEOMETRY.fullmatch(geometry)
        if match is None:
            raise ValueError(
                f"the problem string {text!r} does not have the form 'g1mb1ic64ih56iw56oc64kh3kw3sh1sw1ph1pw1dh1dw1:float32' "
                "(unequal pads as ph0_1)."
            )
        numbers = match.groupdict()
        numbers["ph_hi"] = numbers["ph_hi"] or numbers["ph_lo"]
        numbers["pw_hi"] = numbers["pw_hi"] or numbers["pw_lo"]
        found: dict[str, Any] = {name: int(value) for name, value in numbers.items()}
        for word in words:
            name, _, value = word.partition("=")
            if name in DTYPES:
                found["dtype"] = name
            elif name in PADDING_MODES:
                found["padding_mode"] = name
                if value:
                    found["padding_value"] = _number(value)
            elif name in {"bias", "residual"}:
                found[f"has_{name}"] = True
            elif name in ACTIVATIONS:
                found["activation"] = name
            elif name == "clamp":
                low, _, high = value.partition(",")
                found["activation"] = (_number(low), _number(high))
            elif name == "NHWC":
                found["channels_last"] = True
            else:
                raise ValueError(f"the problem string {text!r} has the unknown word {word!r}.")
        return cls(**found)


def _number(text: str) -> Any:
    """Return an int, a float or a complex number; an int is not rounded on the way."""
    try:
        return int(text)
    except ValueError:
        number = complex(text)
        return number if number.imag else number.real


@functools.lru_cache(maxsize=1024)
def _to_string(p: ConvProblem) -> str:
    def pads(lo: int, hi: int) -> str:
        return f"{lo}" if lo == hi else f"{lo}_{hi}"

    sizes = f"g{p.g}mb{p.mb}ic{p.ic}ih{p.ih}iw{p.iw}oc{p.oc}kh{p.kh}kw{p.kw}sh{p.sh}sw{p.sw}"
    words = [f"{sizes}ph{pads(p.ph_lo, p.ph_hi)}pw{pads(p.pw_lo, p.pw_hi)}dh{p.dh}dw{p.dw}", p.dtype]
    if p.padding_mode == "constant":
        words.append(f"constant={p.padding_value}")
    elif p.padding_mode != "zeros":
        words.append(p.padding_mode)
    words += [name for name, present in (("bias", p.has_bias), ("residual", p.has_residual)) if present]
    if isinstance(p.activation, str):
        words.append(p.activation)
    elif p.activation is not None:
        words.append(f"clamp={p.activation[0]},{p.activation[1]}")
    if p.channels_last:
        words.append("NHWC")
    return ":".join(words)


#: Attribute names in order, for tables and serialisation.
FIELDS = tuple(field.name for field in fields(ConvProblem))

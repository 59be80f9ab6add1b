"""Vector code of the activations that need more than a clamp: silu, sigmoid, tanh, gelu.

Each works on whole vectors without branches, to a few units in the last place, and gives NaN where its formula
does: ``silu(-inf) = -inf * 0`` and ``gelu(-inf) = -inf * 0`` are NaN, as they are in torch.
"""

from __future__ import annotations

import math

from llvmlite import ir

from fastconv.kernels.simd import I64, Emitter, Value

#: Activation codes of kernels. Up to `CLAMP` the result is a clamp (or nothing); above, `build_activation`.
NONE, CLAMP, SILU, SIGMOID, TANH, GELU = range(6)

#: erfcx(t) * (1 + 2t) as a polynomial in u = (t - K)/(t + K), lowest power first, fitted at Chebyshev nodes for
#: |x| up to the range below with 40 digits (M. Shepherd, J. Laframboise, Math. Comp. 36 (1981)).
_ERFCX = {
    "float32": (2.0, (
        1.2769783938548465, -0.09276390461148508, -0.16603150289490606, 0.16405316835397712, -0.05420345289376273,
        -0.008043082845729148, 0.00863252302610075, 0.0012647118223871852, -0.0012491795711476468,
        -0.0003523310759078962, 3.1790129317392046e-05,
    )),
    "float64": (3.75, (
        1.2375126308378275, -0.1402405985855467, 0.0035854154854638603, 0.08227673849011176, -0.10880393014171685,
        0.09230432116153817, -0.05869339859021213, 0.028362277400390434, -0.009746579554505428, 0.001755626017313092,
        0.0002937136731100791, -0.00029015496369109886, 5.1648887452755506e-05, 2.238724558365611e-05,
        -1.1442930558095917e-05, -9.8011766500836e-07, 1.7480387031293762e-06, -4.824825655680711e-08,
        -2.525649641617338e-07, 1.6081680895509283e-08, 3.2851582142751145e-08, -9.113764344597887e-10,
        -2.422100666383798e-09,
    )),
}  # fmt: skip
#: Beyond this |x| the normal distribution's tail is 0 in the element's type.
_GELU_RANGE = {"float32": 15.0, "float64": 39.0}

#: tanh(x) = x + x z P(z) (/ Q(z)) with z = x*x below 0.625 (S. Moshier, Cephes), highest power first.
_TANH = {
    "float32": ((-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1), (1.0,)),
    "float64": (
        (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3),
        (1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3),
    ),
}

#: Word size, mantissa bits, exponent bias, degree of exp's series, clamp of its argument, ln 2 in two parts.
_EXP = {
    "float32": (32, 23, 127, 7, -105.0, 89.5, 0.693145751953125, 1.42860682030941723212e-6),
    "float64": (64, 52, 1023, 13, -746.0, 710.5, 0.693147180369123816490, 1.90821492927058770002e-10),
}


def _polynomial(e: Emitter, x: Value, coefficients: tuple[float, ...]) -> Value:
    """Evaluate by Horner's rule, highest power first."""
    value = e.splat_const(coefficients[0])
    for c in coefficients[1:]:
        value = e.fma(value, x, e.splat_const(c))
    return value


def _absolute(e: Emitter, x: Value) -> Value:
    return e.b.call(e.declare(f"llvm.fabs.{e.suffix}", e.vector, [e.vector]), [x])


def exp(e: Emitter, x: Value) -> Value:
    """Emit e**x: ``x = n ln 2 + r``, a series in r, and a scale by 2**n in two halves (so that it may overflow to inf)."""
    b = e.b
    bits, mantissa, bias, degree, low, high, ln2_high, ln2_low = _EXP[e.element]
    word = ir.IntType(bits)
    words = ir.VectorType(word, e.lanes)

    def constant(value: int) -> Value:
        return ir.Constant(words, [value] * e.lanes)

    x = e.minimum(e.maximum(x, e.splat_const(low)), e.splat_const(high))
    magic = e.splat_const(1.5 * 2.0**mantissa)  # adding it rounds to the nearest integer, kept in the low bits
    shifted = b.fadd(b.fmul(x, e.splat_const(math.log2(math.e))), magic)
    n = b.fsub(shifted, magic)
    r = e.fnma(n, e.splat_const(ln2_low), e.fnma(n, e.splat_const(ln2_high), x))
    series = _polynomial(e, r, tuple(1.0 / math.factorial(k) for k in range(degree, -1, -1)))
    power = b.sub(b.bitcast(shifted, words), b.bitcast(magic, words))
    half = b.ashr(power, constant(1))
    for part in (half, b.sub(power, half)):
        scale = b.bitcast(b.shl(b.add(part, constant(bias)), constant(mantissa)), e.vector)
        series = b.fmul(series, scale)
    return series


def sigmoid(e: Emitter, x: Value) -> Value:
    """Emit ``1 / (1 + exp(-x))``."""
    one = e.splat_const(1.0)
    return e.b.fdiv(one, e.b.fadd(one, exp(e, e.b.fneg(x))))


def silu(e: Emitter, x: Value) -> Value:
    """Emit ``x / (1 + exp(-x))``."""
    infinite_sum = e.b.fadd(e.splat_const(1.0), exp(e, e.b.fneg(x)))
    return e.b.fdiv(x, infinite_sum)


def tanh(e: Emitter, x: Value) -> Value:
    """Emit tanh: a rational function near 0, ``1 - 2 / (exp(2|x|) + 1)`` with x's sign elsewhere."""
    b = e.b
    numerator, denominator = _TANH[e.element]
    z = b.fmul(x, x)
    ratio = _polynomial(e, z, numerator)
    if len(denominator) > 1:
        ratio = b.fdiv(ratio, _polynomial(e, z, denominator))
    near = e.fma(b.fmul(x, z), ratio, x)
    size = _absolute(e, x)
    one = e.splat_const(1.0)
    far = b.fsub(one, b.fdiv(e.splat_const(2.0), b.fadd(exp(e, b.fadd(size, size)), one)))
    far = b.call(e.declare(f"llvm.copysign.{e.suffix}", e.vector, [e.vector] * 2), [far, x])
    return b.select(b.fcmp_ordered("<", size, e.splat_const(0.625)), near, far)


def gelu(e: Emitter, x: Value) -> Value:
    """Emit ``x * Phi(x)``, the exact (erf) form, accurate in the left tail too.

    ``Phi(-|x|) = exp(-x*x/2) * erfcx(|x|/sqrt 2) / 2``; x*x is taken in two parts, for its rounding error is
    multiplied by x*x/2 in the exponential.
    """
    b = e.b
    middle, coefficients = _ERFCX[e.element]
    size = e.minimum(_absolute(e, x), e.splat_const(_GELU_RANGE[e.element]))
    t = b.fmul(size, e.splat_const(math.sqrt(0.5)))
    k, one, half = e.splat_const(middle), e.splat_const(1.0), e.splat_const(0.5)
    u = b.fdiv(b.fsub(t, k), b.fadd(t, k))
    scaled = _polynomial(e, u, tuple(reversed(coefficients)))
    erfcx = b.fdiv(scaled, e.fma(e.splat_const(2.0), t, one))
    square = b.fmul(size, size)
    lost = e.fma(size, size, b.fneg(square))
    gauss = exp(e, b.fmul(square, e.splat_const(-0.5)))
    gauss = e.fnma(b.fmul(lost, half), gauss, gauss)
    tail = b.fmul(half, b.fmul(gauss, erfcx))
    phi = b.select(b.fcmp_ordered("<", x, e.zero()), tail, b.fsub(one, tail))
    return b.fmul(x, phi)


def build_activation(module: Value, like: Emitter) -> Value:
    """Write ``vector f(vector x, i64 code)`` for the codes above `CLAMP`, once per module; return it.

    It is a function of its own, called outside the inner loops, so that each kernel does not carry four of them.
    """
    name = f"activation_{like.element}_{like.lanes}"
    existing = module.globals.get(name)
    if existing is not None:
        return existing
    function = ir.Function(module, ir.FunctionType(like.vector, [like.vector, I64]), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    e = Emitter(module, b, like.element, like.target, like.lanes)
    x, code = function.args
    other = b.append_basic_block("none")
    switch = b.switch(code, other)
    for value, formula in ((SILU, silu), (SIGMOID, sigmoid), (TANH, tanh), (GELU, gelu)):
        block = b.append_basic_block(formula.__name__)
        switch.add_case(ir.Constant(I64, value), block)
        b.position_at_end(block)
        b.ret(formula(e, x))
    b.position_at_end(other)
    b.ret(x)
    return function

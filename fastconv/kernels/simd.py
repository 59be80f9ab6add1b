"""The emitter: vector code as LLVM IR, written from Python through Numba intrinsics.

A generator is a function ``build(module, ...) -> ir.Function`` that writes one internal, never inlined LLVM
function with integer arguments (addresses are ``intp``). It is called from jitted code through an intrinsic
made by `kernel_intrinsic`. The same generator serves every CPU: width, registers and FMA come from a `Target`,
the element type from an array argument of the intrinsic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from fastconv.kernels.target import Target, host

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
PTR = ir.PointerType()

#: Bytes of a cache line.
LINE_NBYTES = 64

#: Elements that the emitter knows: NumPy name -> (LLVM type, LLVM suffix, bytes).
ELEMENTS: dict[str, tuple[ir.Type, str, int]] = {
    "float32": (ir.FloatType(), "f32", 4),
    "float64": (ir.DoubleType(), "f64", 8),
    **{f"int{bits}": (ir.IntType(bits), f"i{bits}", bits // 8) for bits in (8, 16, 32, 64)},
}

Value = Any  # llvmlite has no type stubs


def i64(value: int) -> Value:
    """Return a 64-bit integer constant."""
    return ir.Constant(I64, value)


class Emitter:
    """Vector instructions of one element type on one target, over an IRBuilder.

    Parameters
    ----------
    module : llvmlite.ir.Module
        Where the intrinsics of LLVM that are used get declared.
    builder : llvmlite.ir.IRBuilder
        Where instructions go.
    element : str
        "float32", "float64", or an integer type, whose sums and products wrap (the same bits with and without a sign).
    target : Target
        Decides the number of lanes and whether `fma` is one instruction.
    lanes : int, optional
        Lanes of a vector, if not the target's full width.
    """

    def __init__(self, module: Value, builder: Value, element: str, target: Target | None = None, lanes: int | None = None) -> None:
        self.module, self.b = module, builder
        self.element = element
        self.target = host() if target is None else target
        self.scalar, suffix, self.nbytes = ELEMENTS[element]
        self.lanes = self.target.lanes(self.nbytes) if lanes is None else lanes
        self.is_integer = element.startswith("int")
        self.block = max(1, 16 // self.nbytes)  # lanes of 128 bits
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.ivector = ir.VectorType(I32, self.lanes)
        self.mask_type = ir.VectorType(I1, self.lanes)
        self.suffix = f"v{self.lanes}{suffix}"

    # ---- constants, addresses

    def splat_const(self, value: float) -> Value:
        """Return a vector with `value` in each lane."""
        return ir.Constant(self.vector, [int(value) if self.is_integer else float(value)] * self.lanes)

    def zero(self) -> Value:
        """Return the zero vector."""
        return self.splat_const(0.0)

    def ptr(self, address: Value) -> Value:
        """Turn an integer address into a pointer."""
        return self.b.inttoptr(address, PTR)

    def offset(self, pointer: Value, elements: Value | int) -> Value:
        """Return `pointer` moved by a number of elements."""
        return self.b.gep(pointer, [i64(elements) if isinstance(elements, int) else elements], source_etype=self.scalar)

    def offset_nbytes(self, pointer: Value, nbytes: Value | int) -> Value:
        """Return `pointer` moved by a number of bytes."""
        return self.b.gep(pointer, [i64(nbytes) if isinstance(nbytes, int) else nbytes], source_etype=I8)

    def launder(self, pointer: Value) -> Value:
        """Return `pointer` through an empty asm: LLVM no longer knows it, so it cannot merge equal loads.

        Merged loads live long and get spilled; reloading a broadcast is free on the load ports that idle.
        """
        return self.b.asm(ir.FunctionType(PTR, [PTR]), "", "=r,0", [pointer], side_effect=False)

    def fence(self) -> None:
        """Keep LLVM from moving loads over this place; no instruction."""
        self.b.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)

    # ---- memory

    def load(self, pointer: Value, align: int | None = None) -> Value:
        """Load a vector; `align` in bytes (default: that of an element)."""
        return self.b.load(pointer, typ=self.vector, align=align or self.nbytes)

    def store(self, value: Value, pointer: Value, align: int | None = None) -> None:
        """Store a vector; `align` in bytes (default: that of an element)."""
        self.b.store(value, pointer, align=align or self.nbytes)

    def load_scalar(self, pointer: Value) -> Value:
        """Load one element."""
        return self.b.load(pointer, typ=self.scalar, align=self.nbytes)

    def broadcast(self, pointer: Value) -> Value:
        """Load one element into all lanes."""
        return self.splat(self.load_scalar(pointer))

    def splat(self, scalar: Value) -> Value:
        """Copy an element that is in a register into all lanes."""
        return self._splat(scalar, self.vector)

    def _splat(self, scalar: Value, vector: Value) -> Value:
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return self.b.shuffle_vector(first, undefined, ir.Constant(self.ivector, [0] * self.lanes))

    def masked_load(self, pointer: Value, mask: Value) -> Value:
        """Load the lanes whose mask bit is set; the others become 0 and are not touched in memory."""
        fn = self.declare(f"llvm.masked.load.{self.suffix}.p0", self.vector, [PTR, I32, self.mask_type, self.vector])
        return self.b.call(fn, [pointer, ir.Constant(I32, self.nbytes), mask, self.zero()])

    def masked_store(self, value: Value, pointer: Value, mask: Value) -> None:
        """Store the lanes whose mask bit is set."""
        fn = self.declare(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), [self.vector, PTR, I32, self.mask_type])
        self.b.call(fn, [value, pointer, ir.Constant(I32, self.nbytes), mask])

    def mask(self, bits: Iterable[bool]) -> Value:
        """Return the constant mask of these bits, lane by lane."""
        return ir.Constant(self.mask_type, [int(bit) for bit in bits])

    def lane_mask(self, first: int, stop: int) -> Value:
        """Return the constant mask of lanes first .. stop - 1."""
        return self.mask(first <= lane < stop for lane in range(self.lanes))

    def range_mask(self, low: Value, high: Value) -> Value:
        """Return lanes ``low <= lane < high`` (i64 values) as 32-bit words of -1 and 0, cheap to keep over blocks."""
        first = self._splat(self.b.trunc(low, I32), self.ivector)
        last = self._splat(self.b.trunc(high, I32), self.ivector)
        lane = ir.Constant(self.ivector, list(range(self.lanes)))
        inside = self.b.and_(self.b.icmp_signed(">=", lane, first), self.b.icmp_signed("<", lane, last))
        return self.b.sext(inside, self.ivector)

    def as_mask(self, words: Value) -> Value:
        """Turn words of -1 and 0 (see `range_mask`) into a mask."""
        return self.b.icmp_signed("<", words, ir.Constant(self.ivector, [0] * self.lanes))

    def prefetch(self, pointer: Value, *, write: bool = False, locality: int = 3) -> None:
        """Ask for the cache line at `pointer`; locality 3 = nearest, 0 = not kept."""
        fn = self.declare("llvm.prefetch.p0", ir.VoidType(), [PTR, I32, I32, I32])
        self.b.call(fn, [pointer, *(ir.Constant(I32, v) for v in (int(write), locality, 1))])

    def prefetch_row(self, pointer: Value, vectors: int, *, write: bool = False) -> None:
        """Ask for the cache lines of so many vectors from `pointer` on, if it is that of a line."""
        for start in range(0, vectors * self.lanes * self.nbytes, LINE_NBYTES):
            self.prefetch(self.offset_nbytes(pointer, start), write=write)

    # ---- arithmetic

    def plus(self, a: Value, b: Value) -> Value:
        """Return a + b."""
        return self.b.add(a, b) if self.is_integer else self.b.fadd(a, b)

    def times(self, a: Value, b: Value) -> Value:
        """Return a*b."""
        return self.b.mul(a, b) if self.is_integer else self.b.fmul(a, b)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Return a*b + c: fused where the target can, else multiply and add."""
        if self.is_integer or not self.target.has_fma:
            return self.plus(self.times(a, b), c)
        return self.b.call(self.declare(f"llvm.fma.{self.suffix}", self.vector, [self.vector] * 3), [a, b, c])

    def fnma(self, a: Value, b: Value, c: Value) -> Value:
        """Return c - a*b."""
        return self.fma(self.b.fneg(a), b, c)

    def maximum(self, a: Value, b: Value) -> Value:
        """Return the larger lane-wise; a NaN in `a` stays."""
        return self.b.select(self.b.fcmp_ordered("<", a, b), b, a)

    def minimum(self, a: Value, b: Value) -> Value:
        """Return the smaller lane-wise; a NaN in `a` stays."""
        return self.b.select(self.b.fcmp_ordered(">", a, b), b, a)

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """Return lanes picked from `a` (0 .. lanes-1) and `b` (from `lanes` on)."""
        return self.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))

    def transpose(self, rows: Sequence[Value]) -> list[Value]:
        """Transpose the squares of 2**n vectors in registers, in n rounds of two-input shuffles.

        Fewer rows than lanes hold several squares next to each other. Squares of four are turned first by interleaving pairs and then
        pairs of pairs, each one instruction; after them, blocks of 4, 8 ... lanes are exchanged between rows that far apart.
        """
        n = self.lanes
        out = list(rows)
        if n % len(out):
            raise ValueError(f"transpose takes a number of rows that divides {n}, got {len(out)}")
        block = 1
        if len(out) % 4 == 0:
            block = 4
            starts = range(0, n, 4)
            pairs = [[s + k // 2 + n * (k % 2) + 2 * half for s in starts for k in range(4)] for half in (0, 1)]
            halves = [[s + k % 2 + n * (k // 2) + 2 * half for s in starts for k in range(4)] for half in (0, 1)]
            for i in range(0, len(out), 4):
                mixed = [[self.shuffle(out[i + k], out[i + k + 1], order) for order in pairs] for k in (0, 2)]
                out[i : i + 4] = [self.shuffle(a, b, order) for a, b in zip(*mixed, strict=True) for order in halves]
        while block < len(out):
            low = [lane if not lane & block else n + lane - block for lane in range(n)]
            high = [lane + block if not lane & block else n + lane for lane in range(n)]
            for i in range(len(out)):
                if not i & block:
                    a, b = out[i], out[i + block]
                    out[i], out[i + block] = self.shuffle(a, b, low), self.shuffle(a, b, high)
            block *= 2
        return out

    def load_pieces(self, pointers: Sequence[Value], count: int) -> Value:
        """Load `count` = 2**n elements from each pointer into one vector, as many as there is room for."""
        kind = ir.VectorType(self.scalar, count)
        parts = [self.b.load(pointer, typ=kind, align=self.nbytes) for pointer in pointers]
        while len(parts) > 1:
            parts = [self.shuffle(a, b, range(2 * a.type.count)) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def store_pieces(self, value: Value, pointers: Sequence[Value], count: int) -> None:
        """Store the first `count` elements of a vector to the first pointer, the next to the second, as far as there are pointers."""
        for k, pointer in enumerate(pointers):
            self.b.store(self.shuffle(value, value, range(k * count, (k + 1) * count)), pointer, align=self.nbytes)

    # ---- control

    def declare(self, name: str, result: Value, arguments: Sequence[Value]) -> Value:
        """Return the external function `name`, declared once per module."""
        return cgutils.get_or_insert_function(self.module, ir.FunctionType(result, list(arguments)), name)

    def loop(self, count: Value, carried: Sequence[Value], body: Callable[[Value, list[Value]], Iterable[Value]], name: str) -> list[Value]:
        """Emit ``for i in range(count): carried = body(i, carried)`` with phi nodes; return the last values.

        `count` is an i64 value; a count of zero or less runs no turn.
        """
        b = self.b
        before = b.block
        head, after = b.append_basic_block(f"{name}.body"), b.append_basic_block(f"{name}.end")
        b.cbranch(b.icmp_signed(">", count, i64(0)), head, after)
        b.position_at_end(head)
        index = b.phi(I64)
        index.add_incoming(i64(0), before)
        phis = []
        for value in carried:
            phi = b.phi(value.type)
            phi.add_incoming(value, before)
            phis.append(phi)
        new = list(body(index, list(phis)))
        following = b.add(index, i64(1))
        last = b.block
        b.cbranch(b.icmp_signed("<", following, count), head, after)
        index.add_incoming(following, last)
        b.position_at_end(after)
        out = []
        for phi, first, value in zip(phis, carried, new, strict=True):
            phi.add_incoming(value, last)
            result = b.phi(first.type)
            result.add_incoming(first, before)
            result.add_incoming(value, last)
            out.append(result)
        return out

    def plus_if(self, word: Value, value: Value, addend: Callable[[], Value]) -> Value:
        """Return the vector `value`, plus what `addend` emits if the i64 `word` is not 0; it is not read otherwise."""
        b = self.b
        start = b.block
        add, done = b.append_basic_block("add"), b.append_basic_block("added")
        b.cbranch(b.icmp_signed("!=", word, i64(0)), add, done)
        b.position_at_end(add)
        total = b.fadd(value, addend())
        b.branch(done)
        b.position_at_end(done)
        phi = b.phi(value.type)
        phi.add_incoming(value, start)
        phi.add_incoming(total, add)
        return phi


def call_by_case(b: Value, selector: Value, kernels: Mapping[int, Value], arguments: Sequence[Value]) -> None:
    """End a function by calling that one of `kernels` whose key `selector` is, with the same arguments; none for other keys."""
    after = b.append_basic_block("done")
    switch = b.switch(selector, after)
    for key, kernel in kernels.items():
        block = b.append_basic_block(f"case_{key}")
        switch.add_case(ir.Constant(I64, key), block)
        with b.goto_block(block):
            b.call(kernel, arguments)
            b.branch(after)
    b.position_at_end(after)
    b.ret_void()


def new_function(module: Value, name: str, arguments: int) -> tuple[Value, Value | None]:
    """Return (function, builder) for a new internal function of `arguments` i64s; builder None if it exists."""
    existing = module.globals.get(name)
    if existing is not None:
        return existing, None
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    return function, ir.IRBuilder(function.append_basic_block("entry"))


def kernel_intrinsic(build: Callable[..., Value], literals: int = 0) -> Any:
    """Make an intrinsic ``f(like, *literals, *arguments)`` that calls the function written by `build`.

    Parameters
    ----------
    build : callable
        ``build(module, element, *literals) -> ir.Function`` of i64 arguments returning nothing; `element` is the
        real dtype's name of `like`.
    literals : int
        How many arguments after `like` are compile-time integers.

    Returns
    -------
    intrinsic
        In jitted code, `like` is any array whose dtype (or whose complex dtype's real part) picks the element
        type; the arguments are integers, addresses as ``array.ctypes.data``. See `keepalive`.
    """

    @intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
    def call(typingctx: Any, like: Any, *args: Any) -> Any:  # noqa: ARG001
        fixed = args[:literals]
        if not all(isinstance(t, types.IntegerLiteral) for t in fixed):
            return None
        element = str(np.dtype(str(like.dtype)).type(0).real.dtype)
        rest = (types.intp,) * (len(args) - literals)
        signature = types.void(like, types.StarArgTuple.from_types(fixed + rest))

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
            function = build(builder.module, element, *(t.literal_value for t in fixed))
            builder.call(function, cgutils.unpack_tuple(builder, values[1])[literals:])
            return context.get_dummy_value()

        return signature, codegen

    return call


@intrinsic  # type: ignore[untyped-decorator]
def _keepalive(typingctx: Any, array: Any) -> Any:  # noqa: ARG001
    """Use `array` without doing anything, after the last kernel that works on its address.

    Numba frees an array after its last *named* use: ``p = buf.ctypes.data`` does not keep ``buf`` alive, so a
    kernel that works on p may run on freed memory. Each function that allocates an array and hands its address
    to a kernel calls ``keepalive(array)`` afterwards.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        return context.get_dummy_value()

    return types.void(array), codegen


def _plain_keepalive(array: Any) -> None:
    """Do nothing: Python keeps the arrays of a function alive until it returns."""


#: ``keepalive(array)`` in jitted code, and where the JIT is switched off.
keepalive: Any = _plain_keepalive if config.DISABLE_JIT else _keepalive

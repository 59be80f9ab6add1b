"""What the generators must know of a CPU: vector width, number of vector registers, fused multiply-add."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Target:
    """A SIMD instruction set as the kernel generators see it.

    Attributes
    ----------
    name : str
        For reports and test ids.
    vector_nbytes : int
        Width of a vector register.
    registers : int
        Number of architectural vector registers: bounds the register tile of a micro-kernel.
    has_fma : bool
        Whether a fused multiply-add is one instruction. Without it ``llvm.fma`` becomes a library call per
        lane, so the emitter multiplies and adds.
    load_cycles : float
        What a vector load or broadcast takes, in units of two multiply-adds: 0.4 where two or three loads go with two
        multiply-adds a cycle. CPUs that halve 256-bit instructions also halve loads, so that one and a third
        multiply-adds go with one load (measured on Zen 1: a tile of 6 x 1 vectors runs at 65 % of the peak).
    has_masks : bool
        Whether loads and stores take a mask of lanes at no cost.
    folds_loads : bool
        Whether a multiply-add takes an unaligned vector or a broadcast from memory, so that it needs no register.
    converts_half : bool
        Whether float16 becomes float32, and back, by an instruction; it is a library call per element otherwise.
    """

    name: str
    vector_nbytes: int
    registers: int
    has_fma: bool
    load_cycles: float = 0.4
    has_masks: bool = False
    folds_loads: bool = False
    converts_half: bool = False

    def lanes(self, itemsize: int) -> int:
        """Return how many elements of `itemsize` bytes a vector holds."""
        return self.vector_nbytes // itemsize


SSE2 = Target("sse2", 16, 16, has_fma=False)
AVX = Target("avx", 32, 16, has_fma=False, folds_loads=True)
AVX2 = Target("avx2", 32, 16, has_fma=True, folds_loads=True, converts_half=True)
AVX512 = Target("avx512", 64, 32, has_fma=True, has_masks=True, folds_loads=True, converts_half=True)
NEON = Target("neon", 16, 32, has_fma=True, converts_half=True)
#: Anything else: 128-bit vectors, which LLVM splits where there are none.
GENERIC = Target("generic", 16, 16, has_fma=False)


def target_of(machine: str, features: str) -> Target:
    """Return the target for `machine` (as `platform.machine` says it) with LLVM's feature string."""
    machine = machine.lower()
    enabled = {f[1:] for f in features.split(",") if f.startswith("+")}
    if machine in {"x86_64", "amd64", "i686", "i386"}:
        if {"avx512f", "avx512vl", "avx512dq"} <= enabled:
            return AVX512
        if {"avx2", "fma"} <= enabled:
            return replace(AVX2, converts_half="f16c" in enabled)
        return AVX if "avx" in enabled else SSE2
    return NEON if machine in {"aarch64", "arm64"} else GENERIC


#: LLVM's names of the x86 CPUs that execute 256-bit vectors as two halves.
HALVING_CPUS = frozenset({"znver1", "btver2", "bdver1", "bdver2", "bdver3", "bdver4"})


@functools.cache
def host() -> Target:
    """Return the target that Numba compiles for in this process (NUMBA_CPU_NAME and _FEATURES count)."""
    from numba.core.registry import cpu_target  # noqa: PLC0415  starts LLVM: only when a kernel is compiled

    codegen = cpu_target.target_context.codegen()
    target = target_of(platform.machine(), codegen._tm_features)  # noqa: SLF001
    if codegen._get_host_cpu_name() in HALVING_CPUS and target.vector_nbytes == AVX.vector_nbytes:  # noqa: SLF001
        return replace(target, load_cycles=0.64)
    return target

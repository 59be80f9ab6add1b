"""The micro-kernel compiled for CPUs that are not at hand: full vectors, fused multiply-adds, nothing spilled."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

import pytest
from llvmlite import binding, ir

from fastconv.kernels.gemm import build_microkernel, register_tile
from fastconv.kernels.target import AVX2, AVX512, NEON, SSE2, Target

#: A vector register written to the stack or read back.
X86_SPILL = r"[xyz]mm\d+,\s*-?\d*\(%rsp\)|\(%rsp\),\s*%[xyz]mm"
ARM_SPILL = r"(st|ld)[rp]\s+q\d+.*\[sp\b"
#: Target, LLVM triple, CPU, its multiply-add (multiply where it is not fused) on a full register, a spill.
MACHINES = {
    "skylake-avx512": (AVX512, "x86_64-unknown-linux-gnu", r"vfn?madd\d+p[sd]\b.*%zmm", X86_SPILL),
    "znver4": (AVX512, "x86_64-unknown-linux-gnu", r"vfn?madd\d+p[sd]\b.*%zmm", X86_SPILL),
    "haswell": (AVX2, "x86_64-unknown-linux-gnu", r"vfn?madd\d+p[sd]\b.*%ymm", X86_SPILL),
    "x86-64": (SSE2, "x86_64-unknown-linux-gnu", r"mulp[sd]\b.*%xmm", X86_SPILL),
    "neoverse-n1": (NEON, "aarch64-unknown-linux-gnu", r"fml[as]\s+v\d+\.(4s|2d)", ARM_SPILL),
    "apple-m1": (NEON, "arm64-apple-macosx", r"fml[as](\.4s|\.2d|\s+v\d+\.(4s|2d))", ARM_SPILL),
}


def assembly(cpu: str, element: str, rows: int, vectors: int, *, complex_values: bool = False) -> str:
    """Return the machine code of one tile for `cpu`."""
    target, triple, _, _ = MACHINES[cpu]
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    module = ir.Module("kernel")
    module.triple = triple
    module.data_layout = str(machine.target_data)
    function = build_microkernel(module, element, rows, vectors, a="packed", complex_values=complex_values, target=target)
    function.linkage = "external"
    compiled = binding.parse_assembly(str(module))
    compiled.verify()
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(compiled, builder)
    return str(machine.emit_assembly(compiled))


def hottest_block(text: str, pattern: str) -> list[str]:
    """Return the instructions between two labels that hold most matches of `pattern`: the unrolled loop."""
    blocks = re.split(r"^[.\w$]+:.*$", text, flags=re.MULTILINE)
    return max(blocks, key=lambda block: len(re.findall(pattern, block))).splitlines()


@pytest.mark.parametrize("element", ["float32", "float64"])
@pytest.mark.parametrize("cpu", MACHINES)
def test_inner_loop_is_full_width_multiply_adds_without_spills(cpu: str, element: str) -> None:
    target, _, multiply, stack = MACHINES[cpu]
    tile = register_tile({"float32": 4, "float64": 8}[element], target)
    lines = hottest_block(assembly(cpu, element, tile.rows, tile.vectors), multiply)
    products = [line for line in lines if re.search(multiply, line)]
    assert len(products) == 4 * tile.rows * tile.vectors
    assert not [line for line in lines if re.search(stack, line)]
    # Loads, broadcasts and loop control: fewer than the products, so that these bound the loop.
    limit = 2 * len(products) if target.has_fma else 5 * len(products)
    assert len([line for line in lines if line.strip()]) < limit


@pytest.mark.parametrize("cpu", ["skylake-avx512", "haswell", "neoverse-n1"])
def test_complex_loop_is_full_width_multiply_adds_without_spills(cpu: str) -> None:
    target: Target = MACHINES[cpu][0]
    _, _, multiply, stack = MACHINES[cpu]
    tile = register_tile(4, target, complex_values=True)
    lines = hottest_block(assembly(cpu, "float32", tile.rows, tile.vectors, complex_values=True), multiply)
    assert len([line for line in lines if re.search(multiply, line)]) == 4 * 4 * tile.rows * tile.vectors
    assert not [line for line in lines if re.search(stack, line)]


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="takes away AVX and FMA")
def test_a_cpu_without_fma_and_avx_computes_the_same() -> None:
    """128-bit vectors, multiply then add, run for real: NUMBA_CPU_NAME takes the newer instructions away."""
    program = """
import numpy as np
import fastconv
from fastconv.kernels.target import host
assert not host().has_fma and host().vector_nbytes == 16, host()
rng = np.random.default_rng(0)
x = rng.integers(-4, 5, (1, 5, 9, 10)).astype("float32")
w = rng.integers(-4, 5, (7, 5, 3, 3)).astype("float32")
y = fastconv.conv2d(x, w, padding=1, backend="direct:dense")
np.testing.assert_array_equal(y, fastconv.conv2d(x, w, padding=1, backend="naive"))
"""
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

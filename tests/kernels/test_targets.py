"""Kernels compiled for CPUs that are not at hand: full vectors, fused multiply-adds, nothing spilled."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from llvmlite import binding, ir

from fastconv.backends.direct.channels import ChannelsLayout
from fastconv.backends.direct.planar_plan import PlanarLayout
from fastconv.kernels.channels import build_channels
from fastconv.kernels.gemm import Operand, build_microkernel, steps_per_turn
from fastconv.kernels.planar import build_planar
from fastconv.kernels.planes import build_planes
from fastconv.kernels.register_tile import register_tile
from fastconv.kernels.target import AVX2, AVX512, NEON, SSE2, Target
from fastconv.problem import ConvProblem

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


def compiled_for(cpu: str, build: Callable[[ir.Module], Any]) -> str:
    """Return the machine code for `cpu` of the function that `build` writes into a module."""
    triple = MACHINES[cpu][1]
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    module = ir.Module("kernel")
    module.triple = triple
    module.data_layout = str(machine.target_data)
    build(module).linkage = "external"
    compiled = binding.parse_assembly(str(module))
    compiled.verify()
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(compiled, builder)
    return str(machine.emit_assembly(compiled))


def assembly(cpu: str, element: str, rows: int, vectors: int, *, complex_values: bool = False) -> str:
    """Return the machine code of one tile of the matrix product for `cpu`."""
    target, complex_ = MACHINES[cpu][0], complex_values
    return compiled_for(
        cpu, lambda module: build_microkernel(module, element, rows, vectors, a="packed", complex_values=complex_, target=target)
    )


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


@pytest.mark.parametrize("element", ["float32", "float64"])
@pytest.mark.parametrize("variant", ["packs", "placed", "rows"])
@pytest.mark.parametrize("cpu", ["skylake-avx512", "znver4", "haswell"])
def test_tiles_that_pack_or_read_rows_spill_nothing_in_their_loop(cpu: str, variant: str, element: str) -> None:
    target, _, multiply, stack = MACHINES[cpu]
    tile, packs, reads_rows = register_tile({"float32": 4, "float64": 8}[element], target), variant == "packs", variant == "rows"
    a: Operand = "rows" if reads_rows else "packed"
    for rows in tile.high_heights:
        unroll = steps_per_turn(rows * tile.vectors, a, has_offsets=not reads_rows)
        build = functools.partial(
            build_microkernel, element=element, rows=rows, vectors=tile.vectors, a=a, packs=packs, placed=variant == "placed",
            prefetch=reads_rows, repeat=not packs, epilogue="columns" if reads_rows else "rows", unroll=unroll, target=target,
        )  # fmt: skip
        text = compiled_for(cpu, build)
        blocks = re.split(r"^[.\w$]+:.*$", text, flags=re.MULTILINE)
        # Blocks of activations, which have products of their own, come later.
        [block] = [block for block in blocks if len(re.findall(multiply, block)) == unroll * rows * tile.vectors][:1]
        assert not re.search(stack, block)


@pytest.mark.parametrize("cpu", ["skylake-avx512", "haswell", "neoverse-n1"])
def test_complex_loop_is_full_width_multiply_adds_without_spills(cpu: str) -> None:
    target: Target = MACHINES[cpu][0]
    _, _, multiply, stack = MACHINES[cpu]
    tile = register_tile(4, target, complex_values=True)
    lines = hottest_block(assembly(cpu, "float32", tile.rows, tile.vectors, complex_values=True), multiply)
    assert len([line for line in lines if re.search(multiply, line)]) == 4 * 4 * tile.rows * tile.vectors
    assert not [line for line in lines if re.search(stack, line)]


#: Planar kernels: depthwise, an image, a pass of a separable kernel, groups of four channels.
PLANAR = {
    "depthwise": "g8mb1ic8ih56iw128oc8kh3kw3sh1sw1ph0pw0dh1dw1",
    "image": "g1mb1ic1ih56iw128oc1kh5kw5sh1sw1ph0pw0dh1dw1",
    "pass": "g1mb1ic1ih56iw128oc1kh1kw15sh1sw1ph0pw0dh1dw1",
    "grouped": "g2mb1ic8ih56iw128oc8kh3kw3sh1sw1ph0pw0dh1dw1",
}
#: A source vector may be read back once from the stack where LLVM's model of a CPU moves loads far ahead.
STACK_SHARE = 0.05


@pytest.mark.parametrize("element", ["float32", "float64"])
@pytest.mark.parametrize("cpu", MACHINES)
@pytest.mark.parametrize("name", PLANAR)
def test_planar_tiles_are_full_width_multiply_adds_without_spills(cpu: str, element: str, name: str) -> None:
    target, _, multiply, stack = MACHINES[cpu]
    layout = PlanarLayout(ConvProblem.parse(f"{PLANAR[name]}:{element}"), target=target)
    spec = layout.spec
    code = compiled_for(cpu, lambda module: build_planar(module, element, *spec, target=target))
    lines = hottest_block(code, multiply)
    products = len([line for line in lines if re.search(multiply, line)])
    # The first product of a sum is a multiplication where nothing is carried into the tile.
    sums = spec.mo * spec.r * spec.v
    assert products in {sums * spec.kh * spec.kw, sums * (spec.kh * spec.kw - 1)}
    assert len([line for line in lines if re.search(stack, line)]) <= STACK_SHARE * products


@pytest.mark.parametrize("cpu", ["skylake-avx512", "neoverse-n1"])
def test_tiles_of_channels_are_full_width_multiply_adds_without_spills(cpu: str) -> None:
    target, _, multiply, stack = MACHINES[cpu]
    problem = ConvProblem.parse("g64mb1ic64ih9iw40oc64kh3kw3sh1sw1ph0pw0dh1dw1:float32").replace(channels_last=True)
    spec = ChannelsLayout(problem, target).spec
    lines = hottest_block(compiled_for(cpu, lambda module: build_channels(module, "float32", *spec, target=target)), multiply)
    products = len([line for line in lines if re.search(multiply, line)])
    assert products in {spec.r * spec.p * 9, spec.r * spec.p * 8}
    assert len([line for line in lines if re.search(stack, line)]) <= STACK_SHARE * products


@pytest.mark.parametrize(("pixels", "kernel"), [(7, 3), (7, 5), (14, 3), (14, 7), (20, 3)])
@pytest.mark.parametrize("cpu", ["skylake-avx512", "znver4"])
def test_small_planes_are_full_width_multiply_adds_without_spills(cpu: str, pixels: int, kernel: int) -> None:
    target, _, multiply, stack = MACHINES[cpu]
    text = f"g8mb1ic8ih{pixels}iw{pixels}oc8kh{kernel}kw{kernel}sh1sw1ph{kernel // 2}pw{kernel // 2}dh1dw1:float32"
    spec = PlanarLayout(ConvProblem.parse(text), target=target).small
    assert spec is not None
    lines = compiled_for(cpu, lambda module: build_planes(module, "float32", *spec, target=target)).splitlines()
    products = len([line for line in lines if re.search(multiply, line)])
    lanes = target.lanes(4)
    assert spec.products(lanes) - 2 * len(spec.vectors(lanes)) <= products <= spec.products(lanes)
    assert len([line for line in lines if re.search(stack, line)]) <= STACK_SHARE * products


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="takes away AVX and FMA")
def test_a_cpu_without_fma_and_avx_computes_the_same() -> None:
    """128-bit vectors, multiply then add, run for real: NUMBA_CPU_NAME takes the newer instructions away."""
    program = """
import numpy as np
import fastconv
from fastconv.kernels.target import host
assert not host().has_fma and host().vector_nbytes == 16, host()
rng = np.random.default_rng(0)
def integers(*shape):
    return rng.integers(-4, 5, shape).astype("float32")
x = integers(1, 5, 9, 10)
for backend, w, groups in (("direct:dense", integers(7, 5, 3, 3), 1), ("direct:depthwise", integers(5, 1, 3, 3), 5)):
    y = fastconv.conv2d(x, w, padding=1, groups=groups, backend=backend)
    np.testing.assert_array_equal(y, fastconv.conv2d(x, w, padding=1, groups=groups, backend="naive"))
"""
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

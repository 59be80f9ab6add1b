"""Time over the number of threads and over the size of an image, for the automatic choice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv.cli.cases import find_layer, layer_case
from fastconv.machine import usable_cores

LAYERS = ("r50_stem7x7s2_3-64@224", "vgg_3x3_64-64@224", "r50_1x1_256-64@56", "dw3x3s1_32@112", "img1024_7x7_f32", "img1024_31x31_f32")


@pytest.mark.parametrize("count", range(1, usable_cores() + 1))
@pytest.mark.parametrize("name", LAYERS)
def test_threads(benchmark: Any, record: Any, name: str, count: int) -> None:
    layer = find_layer(name)
    assert layer is not None
    case = layer_case("", layer)
    p = case.problem
    with fastconv.config(threads=count):
        plan = fastconv.plan(p.x_shape, case.w, None, (p.sh, p.sw), ((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)), (p.dh, p.dw), p.g)
    record(case, plan.backend, count)
    benchmark.group = f"threads: {name}"
    benchmark(plan, case.x)


@pytest.mark.parametrize("kernel", [3, 15])
@pytest.mark.parametrize("size", [32, 128, 512, 2048])
def test_image_size(benchmark: Any, size: int, kernel: int) -> None:
    x = np.ones((1, size, size), np.float32)
    plan = fastconv.plan(x.shape, np.ones((1, 1, kernel, kernel), np.float32), padding="same")
    benchmark.group = f"image size: {kernel}x{kernel}"
    benchmark.extra_info.update(flops=plan.problem.flops, backend=plan.backend)
    benchmark(plan, x)

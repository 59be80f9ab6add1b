"""The first call of a fresh process, with an empty and with a filled folder of compiled kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LAYERS = ("r50_3x3_64-64@56", "r50_1x1_64-256@56", "dw3x3s1_144@56", "img512_3x3_f32", "img1024_31x31_f32")
FIRST_CALL = """
import sys
import fastconv
from fastconv.cli.cases import find_layer, layer_case
case = layer_case("", find_layer(sys.argv[1]))
p = case.problem
fastconv.conv2d(case.x, case.w, None, (p.sh, p.sw), ((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)), (p.dh, p.dw), p.g)
"""


@pytest.mark.parametrize("is_warm", [False, True], ids=["empty", "filled"])
@pytest.mark.parametrize("name", LAYERS)
def test_first_call(benchmark: Any, tmp_path: Path, name: str, *, is_warm: bool) -> None:
    folders = iter(range(100))

    def fresh_process() -> None:
        folder = tmp_path / ("kernels" if is_warm else f"kernels{next(folders)}")
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "FASTCONV_WISDOM": "off"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # byte code is kept, as an installed package has it
        subprocess.run([sys.executable, "-c", FIRST_CALL, name], check=True, env=environment)  # noqa: S603  this interpreter

    benchmark.group = f"first call: {'filled' if is_warm else 'empty'} folder of kernels"
    benchmark.pedantic(fresh_process, rounds=3, warmup_rounds=int(is_warm))

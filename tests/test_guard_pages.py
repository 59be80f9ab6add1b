"""No kernel reads or writes one element outside its arrays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import guard
from fastconv.backends import TABLE
from fastconv.backends.base import Algorithm

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="memory is protected with mprotect")


def in_a_process_of_its_own(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((*sys.path, str(Path(__file__).parent)))}
    return subprocess.run([sys.executable, "-X", "faulthandler", *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("algorithm", TABLE, ids=lambda algorithm: algorithm.name)
def test_no_access_outside_of_any_array(algorithm: Algorithm) -> None:
    done = in_a_process_of_its_own("-m", "guard", algorithm.name)
    last = (done.stdout.splitlines() or ["nothing ran"])[-1]
    assert done.returncode == 0, f"{last}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("side", ["behind", "before"])
@pytest.mark.parametrize("act", ["a.item()", "a.__setitem__((), 1)"])
def test_the_pages_do_guard(side: str, act: str) -> None:
    """One element outside, on either side, is read or written."""
    offset = 40 if side == "behind" else -4
    code = (
        f"import ctypes, guard, numpy as np; b = guard.Guarded(40, {side!r}).bytes;"
        f"a = np.ndarray((), 'f4', buffer=(ctypes.c_char * 4).from_address(b.ctypes.data + {offset})); print('here', flush=True); {act}"
    )
    done = in_a_process_of_its_own("-c", code)
    assert done.stdout == "here\n"
    assert done.returncode not in {0, 1}


def test_guarded_arrays_hold_their_values() -> None:
    array = np.arange(120.0).reshape(2, 3, 4, 5)
    for given in (array, np.moveaxis(array, 1, -1), np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)):
        for side in ("behind", "before"):
            for gap in (0, 3):
                np.testing.assert_array_equal(guard.guarded(given, side, gap), given)

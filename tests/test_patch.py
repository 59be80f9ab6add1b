"""patch_scipy points SciPy's names at fastconv and back; scripts run unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
import fastconv.ndimage
import fastconv.signal
from fastconv.originals import NAMES, originals, passed_on

signal = pytest.importorskip("scipy.signal")
ndimage = pytest.importorskip("scipy.ndimage")
MODULES = {"signal": signal, "ndimage": ndimage}


@pytest.fixture(autouse=True)
def unpatched() -> Any:
    yield
    fastconv.unpatch_scipy()


def names() -> Any:
    return [(module, name) for module, group in NAMES.items() for name in group]


def current() -> Any:
    return {key: getattr(MODULES[key[0]], key[1]) for key in names()}


def test_every_name_is_replaced_and_restored_exactly() -> None:
    before = current()
    fastconv.patch_scipy()
    for module, name in names():
        assert getattr(MODULES[module], name) is getattr(getattr(fastconv, module), name)
    fastconv.unpatch_scipy()
    assert current() == before
    fastconv.unpatch_scipy()
    assert current() == before


def test_the_patch_ends_with_its_block_and_nested_ones_with_the_outermost() -> None:
    before = current()
    with fastconv.patch_scipy():
        with fastconv.patch_scipy():
            assert signal.correlate2d is fastconv.signal.correlate2d
        assert signal.correlate2d is fastconv.signal.correlate2d
    assert current() == before
    with pytest.raises(RuntimeError), fastconv.patch_scipy():
        raise RuntimeError
    assert current() == before


def test_what_another_library_put_there_comes_back(monkeypatch: Any) -> Any:
    def mine(*args: Any) -> Any:
        return args

    monkeypatch.setattr(signal, "correlate2d", mine)
    with fastconv.patch_scipy():
        assert signal.correlate2d is fastconv.signal.correlate2d
    assert signal.correlate2d is mine


def test_passing_on_reaches_scipy_while_patched() -> None:
    x = np.ones((3, 4, 5))
    with fastconv.patch_scipy():
        count = passed_on()
        np.testing.assert_allclose(signal.convolve(x, x), originals("signal")["convolve"](x, x))
        assert passed_on() == count + 1
        assert ndimage.correlate(x, x).shape == x.shape
        with pytest.raises(ValueError, match="must both be 2-D"):
            signal.correlate2d([1], [2])


def test_records_count_calls_and_time_scipy_once() -> None:
    x = np.random.default_rng(0).standard_normal((100, 100))
    with fastconv.patch_scipy(record=True) as patch:
        for _ in range(3):
            signal.correlate2d(x, x[:5, :5], "same")
        ndimage.gaussian_filter(x, sigma=2)
        ndimage.sobel(x, output=x)
        signal.convolve(x[np.newaxis], x[np.newaxis])
    first, second, third, fourth = patch.records
    assert (first.function, first.arguments, first.calls, first.passed_on) == (
        "signal.correlate2d",
        "float64[100x100], float64[5x5], 'same'",
        3,
        0,
    )
    assert second.arguments == "float64[100x100], sigma=2"
    assert third.arguments == "float64[100x100], output=float64[100x100]"
    assert fourth.passed_on == 1
    assert all(r.scipy_s > 0 and r.call_s > 0 and r.ratio > 0 for r in patch.records)


def test_an_output_that_is_the_input_is_written_once() -> None:
    x = np.arange(20.0)
    expected = ndimage.uniform_filter1d(x, 3)
    with fastconv.patch_scipy(record=True):
        ndimage.uniform_filter1d(x, 3, output=x)
    np.testing.assert_array_equal(x, expected)


def test_threads_that_call_while_others_patch_get_right_results() -> None:
    x = np.random.default_rng(1).standard_normal((40, 40))
    expected = originals("signal")["convolve2d"](x, x[:3, :3])
    wrong = []

    def call() -> None:
        wrong.extend(1 for _ in range(50) if not np.allclose(signal.convolve2d(x, x[:3, :3]), expected))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        with fastconv.patch_scipy():
            pass
    for thread in threads:
        thread.join()
    assert not wrong
    assert signal.convolve2d is originals("signal")["convolve2d"]


SCRIPT = """
import sys
import numpy as np
from scipy.signal import correlate2d
from scipy import ndimage
import sibling
print(correlate2d.__module__, ndimage.sobel.__module__, sys.argv[1:], __name__, sibling.VALUE)
correlate2d(np.ones((200, 200)), np.ones((3, 3)))
sys.exit(int(sys.argv[1]))
"""


def run(*words: Any, cwd: Any = None) -> Any:
    code = (
        "import sys, argparse; from fastconv.cli import run; p = argparse.ArgumentParser(); run.add_arguments(p); "
        "sys.exit(run.run(p.parse_args(sys.argv[1:]), []))"
    )
    # The package under test may not be installed.
    env = {**os.environ, "PYTHONPATH": str(Path(fastconv.__file__).parents[1])}
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, cwd=cwd, env=env)


def test_run_executes_an_unchanged_script_and_reports(tmp_path: Any) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "sibling.py").write_text("VALUE = 5")
    done = run("--report", str(tmp_path / "script.py"), "3", "--report")
    assert done.returncode == 3, done.stderr
    assert done.stdout.split("\n")[0] == "fastconv.signal.images fastconv.ndimage.smooth ['3', '--report'] __main__ 5"
    assert "signal.correlate2d" in done.stderr
    assert "float64[200x200], float64[3x3]" in done.stderr
    as_module = run("-m", "script", "0", cwd=tmp_path)
    assert as_module.returncode == 0, as_module.stderr
    assert as_module.stderr == ""


def test_run_shows_the_scripts_error_and_a_missing_script(tmp_path: Any) -> None:
    (tmp_path / "script.py").write_text("1 / 0")
    done = run(str(tmp_path / "script.py"))
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    done = run(str(tmp_path / "none.py"))
    assert "there is no script" in done.stderr

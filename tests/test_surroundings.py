"""Full disks, folders in the place of files, missing packages, wrong words: a clear error, or a right result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core import config

import fastconv
from fastconv.errors import ConfigError
from fastconv.settings import ENVIRONMENT, forget_sources

X, W = np.arange(9.0).reshape(1, 1, 3, 3), np.arange(4.0).reshape(1, 1, 2, 2)
EXPECTED = [[[[19.0, 25.0], [37.0, 43.0]]]]


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh process of this interpreter."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FASTCONV_")}
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**inherited, "PYTHONPATH": path, **environment},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


FULL_DISK = """
import resource, sys
import numpy as np
import fastconv
x, w = np.arange(9.0).reshape(1, 1, 3, 3), np.arange(4.0).reshape(1, 1, 2, 2)
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
if sys.argv[1] == "wisdom":
    try:
        fastconv.autotune(x.shape, w.shape, dtype="float64", time_limit=0.0)
    except fastconv.WisdomError as error:
        print(error)
print(fastconv.conv2d(x, w, backend="direct:loops").tolist())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="files are limited as Linux does it")
def test_a_disk_too_full_for_wisdom_leaves_the_old_file_and_a_right_result(tmp_path: Path) -> None:
    known = tmp_path / "wisdom.json"
    before = '{"format": "fastconv wisdom", "machines": {}, "version": 1}'
    known.write_text(before)
    # Without the compiler: this test is about the file.
    done = run(FULL_DISK, "wisdom", FASTCONV_WISDOM=str(known), NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr
    message, result = done.stdout.splitlines()
    assert message.startswith(f"the wisdom file {known} cannot be written: ")
    assert result == str(EXPECTED)
    assert known.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["wisdom.json"]


@pytest.mark.skipif(
    sys.platform != "linux" or bool(config.DISABLE_JIT), reason="files are limited as Linux does it; nothing to keep without it"
)
def test_a_disk_too_full_for_compiled_kernels_gives_one_warning_and_a_right_result(tmp_path: Path) -> None:
    done = run(FULL_DISK, "kernels", FASTCONV_WISDOM="off", NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(EXPECTED)
    assert done.stderr.count("RuntimeWarning") == 1
    assert "NUMBA_CACHE_DIR" in done.stderr


@pytest.mark.plain
def test_a_folder_in_the_place_of_wisdom_is_reported_and_ignored(tmp_path: Path) -> None:
    with fastconv.config(wisdom=str(tmp_path)), pytest.warns(RuntimeWarning, match="cannot be read"):
        np.testing.assert_array_equal(fastconv.conv2d(X, W), EXPECTED)


@pytest.mark.plain
@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_wrong_variable_is_an_error_of_the_call_and_goes_away_with_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT[name], "" if name == "wisdom" else "nonsense")
    forget_sources()
    with pytest.raises(ConfigError, match=f"^environment variable {ENVIRONMENT[name]}: {name} "):
        fastconv.conv2d(X, W)
    monkeypatch.delenv(ENVIRONMENT[name])
    forget_sources()
    np.testing.assert_array_equal(fastconv.conv2d(X, W, backend="naive"), EXPECTED)


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"PIL", "tqdm", "threadpoolctl", "torch", "onnx", "dask", "matplotlib"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from fastconv.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("words", [["info"], ["explain", "g1mb1ic1ih3iw3oc1kh2kw2sh1sw1ph0pw0dh1dw1:float64"]], ids=lambda words: words[0])
def test_without_optional_packages_the_rest_works(words: list[str]) -> None:
    done = run(WITHOUT, *words, FASTCONV_WISDOM="off", NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_what_needs_an_optional_package_says_so() -> None:
    done = run(WITHOUT, "filter", "in.png", "--kernel", "blur", "-o", "out.png", FASTCONV_WISDOM="off")
    assert done.returncode != 0
    assert "Pillow" in done.stderr
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr

"""The cache of compiled kernels: never stale, never believed when damaged, quiet when it cannot be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import config

import fastconv

pytestmark = [
    pytest.mark.xdist_group("kernel cache"),
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="without the compiler there is no cache"),
]

CALLEE = "from fastconv.kernels._jit import jit\n\n\n@jit\ndef scale(a):\n    return a * {factor}\n"
CALLER = (
    "from fastconv.kernels._jit import jit\nfrom fastconv.kernels.callee import scale\n\n\n"
    "@jit\ndef shifted(a):\n    return scale(a) + 1.0\n"
)
PROGRAM = """
from fastconv.kernels.caller import shifted
result = shifted(2.0)
stats = shifted.stats
print(result, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


class Package:
    """A copy of the kernel package with two kernels in two files, and a cache folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder, folder / "cache"
        self.kernels = folder / "fastconv" / "kernels"
        original = Path(fastconv.__file__).parent
        self.kernels.mkdir(parents=True)
        for name in ("__init__.py", "_jit.py", "_linked.py"):
            shutil.copy(original / "kernels" / name, self.kernels)
        shutil.copy(original / "_version.py", folder / "fastconv")
        (folder / "fastconv" / "__init__.py").touch()
        (self.kernels / "caller.py").write_text(CALLER)
        self.edit(3)

    def edit(self, factor: int) -> None:
        (self.kernels / "callee.py").write_text(CALLEE.format(factor=factor))

    def run(self, program: str = PROGRAM, **environment: str) -> tuple[str, str]:
        """Run a program in a fresh process; return what it wrote to stdout and stderr."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
        # Python's own cache of bytecode cannot tell two edits within a second from each other.
        own = {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": str(self.cache)}
        result = subprocess.run(
            [sys.executable, "-c", program], cwd=self.folder, env={**inherited, **own, **environment},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout.strip(), result.stderr

    def files(self, suffix: str) -> list[Path]:
        return sorted(self.cache.rglob(f"*{suffix}"))


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path)


def test_a_second_process_loads_the_kernel(package: Package) -> None:
    assert package.run() == ("7.0 0 1", "")
    assert package.run() == ("7.0 1 0", "")


def test_a_stored_kernel_waits_for_none_of_the_compilers_imports(package: Package) -> None:
    program = PROGRAM + "import sys\nprint([name for name in ('numba.np.linalg', 'scipy.linalg') if name in sys.modules])"
    assert package.run(program)[0] == "7.0 0 1\n['numba.np.linalg', 'scipy.linalg']"
    assert package.run(program)[0] == "7.0 1 0\n[]"


def test_a_kernel_is_compiled_anew_after_an_edit_of_another_file(package: Package) -> None:
    assert package.run()[0] == "7.0 0 1"
    package.edit(5)
    assert package.run()[0] == "11.0 0 1"
    package.edit(3)
    assert package.run()[0] == "7.0 1 0"


def test_a_kernel_outside_the_package_is_compiled_anew_after_an_edit(package: Package) -> None:
    # Numba's key covers the bytecode of a function but not its constants.
    source = "from fastconv.kernels._jit import jit\n@jit\ndef f(a):\n    return a + {constant}.5\n"
    for constant in (1, 2):
        (package.folder / "elsewhere.py").write_text(source.format(constant=constant))
        assert package.run("from elsewhere import f\nprint(f(0.0))")[0] == f"{constant}.5"


def test_a_kernel_is_compiled_anew_for_another_version(package: Package) -> None:
    assert package.run()[0] == "7.0 0 1"
    (package.folder / "fastconv" / "_version.py").write_text('__version__ = "999.0"\n')
    assert package.run()[0] == "7.0 0 1"


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "garbage", "one bit"])
def test_damaged_files_are_survived_and_replaced(package: Package, suffix: str, damage: str) -> None:
    package.run()
    for path in package.files(suffix):
        content = bytearray(path.read_bytes())
        if damage == "one bit":
            content[len(content) // 2] ^= 16
        damaged = {"empty": b"", "truncated": content[: len(content) // 2], "garbage": b"\x80garbage" * 99, "one bit": content}
        path.write_bytes(damaged[damage])
    assert package.run()[0].startswith("7.0 ")
    assert package.run() == ("7.0 1 0", "")


def test_a_file_of_another_kernel_is_not_run(package: Package) -> None:
    # What two processes that save at the same time can leave behind.
    program = PROGRAM.replace("2.0", "{}")
    assert package.run(program.format("2.0"))[0] == "7.0 0 1"
    assert package.run(program.format("2"))[0] == "7.0 0 1"
    one, other = (path for path in package.files(".nbc") if "shifted" in path.name)
    shutil.copy(one, other)
    assert package.run(program.format("2.0"))[0] == "7.0 1 0"
    assert package.run(program.format("2"))[0] == "7.0 0 1"


def test_an_unwritable_folder_gives_one_warning_and_right_results(package: Package) -> None:
    blocked = package.folder / "a file"
    blocked.touch()
    # Below a regular file nobody can write, root included. The package's own folder and the user's are blocked alike.
    (package.kernels / "__pycache__").touch()
    out, err = package.run(NUMBA_CACHE_DIR=str(blocked / "cache"), HOME=str(blocked), XDG_CACHE_HOME=str(blocked))
    assert out == "7.0 0 1"
    assert err.count("RuntimeWarning") == 1
    assert "NUMBA_CACHE_DIR" in err


def test_a_folder_that_vanishes_gives_one_warning_and_right_results(package: Package) -> None:
    program = "from fastconv.kernels import caller\nimport os, shutil\n" + (
        "folder = os.environ['NUMBA_CACHE_DIR']\nshutil.rmtree(folder)\nopen(folder, 'w').close()\n" + PROGRAM
    )
    out, err = package.run(program)
    assert out == "7.0 0 1"
    assert err.count("RuntimeWarning") == 1


def test_code_of_one_cpu_does_not_run_on_another(package: Package) -> None:
    assert package.run()[0] == "7.0 0 1"
    assert package.run(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")[0] == "7.0 0 1"
    assert package.run()[0] == "7.0 1 0"
    assert package.run(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")[0] == "7.0 1 0"
    assert package.run(NUMBA_CPU_NAME="generic")[0] == "7.0 1 0"

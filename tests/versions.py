"""Run a part of the tests on the oldest and the newest versions of what fastconv stands on.

``python tests/versions.py`` (or ``make versions``) looks for interpreters from Python 3.10 on, in PATH and in pyenv's folder, builds
an environment for each with the newest numpy, scipy and numba that it takes, and for each that takes them with the lower
bounds of pyproject.toml, and prints a table. ``--only 3.10 --oldest`` restricts it; ``--folder`` keeps the environments.
"""

# ruff: noqa: T201  the table is printed
from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: From the oldest that pyproject.toml allows to one that may come.
PYTHONS = tuple(f"3.{minor}" for minor in range(10, 16))
#: The packages whose lower bounds are tested.
PINNED = ("numba", "numpy", "scipy")
#: Plain loops and everything around them, without a compiler; then one dense layer of each algorithm, the cache of kernels and the threads.
PLAIN = ["-m", "plain", "tests"]
COMPILED = [
    "tests/test_exact.py",
    "tests/test_kernel_cache.py",
    "tests/test_threads.py",
    "-k",
    "not test_exact or ic5ih11iw13oc7 and float32 or ic4ih12iw19",
]
SHOW = "import sys, numba, llvmlite, numpy, scipy; print(sys.version.split()[0], *(m.__version__ for m in (numba, llvmlite, numpy, scipy)))"


def interpreters() -> dict[str, str]:
    """Return the interpreter of each version that is at hand."""
    found = {}
    for version in PYTHONS:
        paths = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        path = str(paths[-1]) if paths else shutil.which(f"python{version}")
        if path:
            found[version] = path
    return found


def lower_bounds() -> list[str]:
    """Return the lower bounds of pyproject.toml as pins."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    bounds = dict(re.findall(r'"(\w+)>=([0-9.]+)"', text))
    return [f"{name}=={bounds[name]}.*" for name in PINNED]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout."""
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def tried(python: str, folder: Path, pins: list[str]) -> str:
    """Build an environment, run the tests, and return a line of what happened."""
    binary = str(folder / "bin" / "python")
    if run(python, "-m", "venv", str(folder)).returncode:
        return f"{python}: has no venv"
    done = run(binary, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", *pins,
               "hypothesis>=6.100", "pytest>=8", "pytest-xdist>=3.5", "tomli; python_version<'3.11'", "pillow>=10", "tqdm", "threadpoolctl")  # fmt: skip
    if done.returncode:
        return "cannot be had: " + done.stderr.strip().splitlines()[-1]
    # The checkout itself is what is tested; a copy of nothing is installed.
    here = {
        "PYTHONPATH": str(ROOT),
        "NUMBA_CACHE_DIR": str(folder / "kernels"),
        "HYPOTHESIS_PROFILE": "dev",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    results = []
    for name, words, extra in (("plain", PLAIN, {"NUMBA_DISABLE_JIT": "1"}), ("compiled", COMPILED, {})):
        tests = run(
            binary, "-m", "pytest", "-q", "-n", "0", "-o", "addopts=--import-mode=importlib -p no:cacheprovider", *words, **here, **extra
        )
        (folder / f"{name}.txt").write_text(tests.stdout + tests.stderr, encoding="utf-8")
        results.append(f"{name}: {(tests.stdout.strip().splitlines() or [tests.stderr[-200:]])[-1].strip('= ')}")
    return "; ".join([run(binary, "-c", SHOW).stdout.strip(), *results])


def main() -> int:
    """Try each interpreter with the newest packages and with the oldest; return 1 if a test failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(PYTHONS), metavar="3.X")
    parser.add_argument("--oldest", action="store_true", help="the lower bounds only")
    parser.add_argument("--newest", action="store_true", help="the newest only")
    parser.add_argument("--folder", type=Path, help="where the environments are kept, with the output of the tests")
    options = parser.parse_args()
    at_hand, failed = interpreters(), False
    with tempfile.TemporaryDirectory() as temporary:
        for version in options.only:
            if version not in at_hand:
                print(f"{version}: no interpreter at hand", flush=True)
                continue
            for name, pins in (("oldest", lower_bounds()), ("newest", list(PINNED))):
                if {"oldest": options.newest, "newest": options.oldest}[name]:
                    continue
                folder = (options.folder or Path(temporary)) / f"{version}-{name}"
                line = tried(at_hand[version], folder, pins)
                failed |= " failed" in line or " error" in line
                print(f"{version} {name}: {line}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

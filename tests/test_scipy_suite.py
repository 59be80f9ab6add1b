"""SciPy's own tests of the functions that fastconv replaces pass with fastconv's functions."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scipy_suite import DEVIATIONS, SUITES


@pytest.mark.parametrize("module", SUITES)
def test_scipys_tests_pass(module: Any, tmp_path: Path) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not part of the installed SciPy")
    pytest.importorskip("hypothesis")
    command = [
        sys.executable, "-m", "pytest", "--pyargs", module, "-p", "scipy_suite", "-q", "-c", os.devnull, "-p", "no:cacheprovider", "-p",
        "no:benchmark",
        "-m", "not slow", "--tb=line", "-W", "ignore::pytest.PytestUnknownMarkWarning", "-rf",
    ]  # fmt: skip
    folder = str(Path(__file__).parent)
    # In a folder without our conftest.py, which would take back the settings of the plugin after each test.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(Path(folder).parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=tmp_path)
    failed = re.findall(r"^FAILED \S+::(\S+)", done.stdout, re.MULTILINE)
    unexpected = [name for name in failed if not any(part in name for part in DEVIATIONS)]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout[-4000:] + done.stderr[-2000:]
    assert int(passed[1]) > 400
    assert not unexpected, "\n".join(unexpected) + done.stdout[-6000:]

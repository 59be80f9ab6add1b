"""A plugin that points SciPy's own tests at fastconv; run by test_scipy_suite.py in a process of its own.

The tests import the functions by name, so SciPy is patched before they are collected; tiny calls, which fastconv
passes on to SciPy for speed, are computed here too.
"""

from __future__ import annotations

import os
from typing import Any

import fastconv
import fastconv.ndimage
import fastconv.signal
from fastconv.ndimage import operands
from fastconv.originals import NAMES, originals
from fastconv.signal import dense, images

#: What of SciPy's files is about the functions that fastconv replaces.
SUITES = {
    "scipy.signal.tests.test_signaltools": (
        "TestConvolve", "TestConvolve2d", "TestFFTConvolve", "TestOAConvolve", "TestAllFreqConvolves", "TestCorrelateReal", "TestCorrelate",
        "TestCorrelateComplex", "TestCorrelate2d", "test_convolve_longdtype_input",
    ),
    "scipy.ndimage.tests.test_filters": (
        "TestNdimageFilters", "test_ticket_701", "test_gh_5430", "test_gaussian_kernel1d", "test_orders_gauss", "test_valid_origins1",
        "test_valid_origins2", "test_bad_convolve_and_correlate_origins", "test_multiple_modes", "test_multiple_modes_sequentially",
        "test_multiple_modes_prewitt", "test_multiple_modes_sobel", "test_multiple_modes_laplace", "test_multiple_modes_gaussian_laplace",
        "test_multiple_modes_uniform", "test_gaussian_truncate", "test_gaussian_radius", "test_gaussian_radius_invalid",
        "TestThreading", "test_uniform_filter1d_roundoff_errors", "test_gaussian_filter_float16",
    ),
}  # fmt: skip

#: Tests that fastconv does not pass, by a part of their names, and why.
DEVIATIONS: dict[str, str] = {}


def pytest_configure() -> None:
    """Patch SciPy, and tell its tables of array backends about the new functions."""
    from scipy._lib import _array_api

    operands.SMALL_SIZE = images.SMALL_MACS = dense.SMALL_LINE_MACS = dense.SMALL_PLANE_MACS = 0
    table = getattr(_array_api, "xp_capabilities_table", {})
    for module, names in NAMES.items():
        theirs = originals(module)
        for name in names:
            if theirs[name] in table:
                table[getattr(getattr(fastconv, module), name)] = table[theirs[name]]
    # One backend for every kernel size, so that none is compiled for a dozen tiny shapes; FASTCONV_SUITE_BACKEND=auto for the real choice.
    fastconv.set_config(backend=os.environ.get("FASTCONV_SUITE_BACKEND", "direct:loops"))
    fastconv.patch_scipy()


def pytest_collection_modifyitems(config: Any, items: Any) -> None:
    """Keep the tests of SUITES."""
    wanted = {name for names in SUITES.values() for name in names}
    kept = [item for item in items if (item.cls.__name__ if item.cls else item.originalname) in wanted]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept

"""fastconv: convolution of NumPy arrays on the CPU, as fast as the hardware allows, from pure Python.

The machine code is generated for the CPU it finds, by Numba and LLVM. Interchangeable backends compute the
same function and are chosen automatically, by argument or by configuration.
"""

import importlib
from typing import Any

from fastconv._version import __version__
from fastconv.api import conv1d, conv2d, plan
from fastconv.backends import backends
from fastconv.errors import ConfigError, DTypeError, ShapeError, UnsupportedProblem, WisdomError
from fastconv.inquiry import autotune, explain
from fastconv.layer import Conv2d
from fastconv.patch import patch_scipy, unpatch_scipy
from fastconv.settings import config, get_config, set_config
from fastconv.transposed import conv_transpose1d, conv_transpose2d
from fastconv.volumes import conv3d

__all__ = [
    "ConfigError",
    "Conv2d",
    "DTypeError",
    "ShapeError",
    "UnsupportedProblem",
    "WisdomError",
    "__version__",
    "autotune",
    "backends",
    "config",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "explain",
    "get_config",
    "grad",
    "ndimage",
    "patch_scipy",
    "plan",
    "set_config",
    "signal",
    "unpatch_scipy",
]

#: Submodules that are imported when they are first used.
_ADAPTERS = ("grad", "ndimage", "signal")


def __getattr__(name: str) -> Any:
    """Import a submodule at its first use as an attribute."""
    if name in _ADAPTERS:
        return importlib.import_module(f"fastconv.{name}")
    raise AttributeError(f"module 'fastconv' has no attribute {name!r}")

"""fastconv: convolution of NumPy arrays on the CPU, as fast as the hardware allows, from pure Python.

The machine code is generated for the CPU it finds, by Numba and LLVM. Interchangeable backends compute the
same function and are chosen automatically, by argument or by configuration.
"""

from fastconv._version import __version__
from fastconv.api import Conv2d, autotune, conv1d, conv2d, explain, plan
from fastconv.backends import backends
from fastconv.errors import ConfigError, DTypeError, ShapeError, UnsupportedProblem, WisdomError
from fastconv.settings import config, get_config, set_config

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
    "explain",
    "get_config",
    "plan",
    "set_config",
]

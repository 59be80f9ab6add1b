"""The exceptions of fastconv. A wrong request and a right request to the wrong backend are different classes."""


class FastconvError(Exception):
    """Base of all exceptions that fastconv defines."""


class ShapeError(FastconvError, ValueError):
    """Array shapes and geometry do not fit together."""


class DTypeError(FastconvError, TypeError):
    """A dtype that the function does not take."""


class UnsupportedProblem(FastconvError, ValueError):  # noqa: N818  a fixed public name
    """A right request to a backend that cannot do it; the message names the reason and the backends that can."""


class ConfigError(FastconvError, ValueError):
    """An unknown setting or value; the message names where it stands and what is allowed."""


class WisdomError(FastconvError):
    """A wisdom file that cannot be used, or cannot be written."""

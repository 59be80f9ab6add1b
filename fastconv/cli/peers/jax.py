"""JAX: `lax.conv_general_dilated`, compiled by XLA for the shape."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.cli.peers.base import Call, zeros_outside
from fastconv.problem import ConvProblem


def prepare(p: ConvProblem, x: Array, w: Array, threads: int) -> Call | None:
    """Compile the layer with the weights as constants of the program."""
    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)  # noqa: FBT003  its own signature
    p, x = zeros_outside(p, x)
    held = jax.numpy.asarray(np.ascontiguousarray(w))

    def layer(source: Any) -> Any:
        return jax.lax.conv_general_dilated(
            source, held, (p.sh, p.sw), ((p.ph_lo, p.ph_hi), (p.pw_lo, p.pw_hi)), rhs_dilation=(p.dh, p.dw), feature_group_count=p.g,
            dimension_numbers=("NCHW", "OIHW", "NCHW"),
        )  # fmt: skip

    # The pool's size is the process's. Only Eigen keeps to one thread for a program: 256 -> 1024 channels by 1x1 take 1.65 cores.
    options = {"xla_cpu_multi_thread_eigen": threads > 1}
    program = jax.jit(layer).lower(jax.ShapeDtypeStruct(p.x_shape, x.dtype)).compile(compiler_options=options)

    def call() -> Array:
        return np.asarray(program(x))

    return call

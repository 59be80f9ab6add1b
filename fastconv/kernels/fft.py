"""Transforms of vectors of independent signals, made of generated stages.

Forward transforms leave the digits of the frequency reversed (`fft_lengths.frequencies` says which frequency stands
where); inverse ones take them so, hence nothing is ever reordered. The inverse is the forward transform with real and
imaginary parts swapped on loads and stores, which costs nothing; it is not scaled.
"""

from __future__ import annotations

from fastconv.kernels._jit import jit
from fastconv.kernels.fft_lengths import FIRST_STAGE, STAGE_FIELDS
from fastconv.kernels.function_pointers import call_function, word


@jit
def forward(plan, tw, src, src_step, dst, dst_step, moves_first):  # type: ignore[no-untyped-def]
    """Transform the elements at `src` into `dst` (may be the same), frequencies in the order of `frequencies`.

    With `moves_first` the first stage goes to `dst` and the others work there; else all but the last work on `src`,
    which is destroyed. The faster of two memories should be the one that is worked on.

    Parameters
    ----------
    plan : int
        Address of the `stages` of the length.
    tw : int
        Address of its `twiddles`.
    src, src_step, dst, dst_step : int
        Addresses and distances of elements in bytes, aligned to vectors; not checked here.
    """
    _forward_from(plan, tw, src, src_step, dst, dst_step, moves_first, 0)


@jit
def _forward_from(plan, tw, src, src_step, dst, dst_step, moves_first, begin):  # type: ignore[no-untyped-def]
    """Run the stages from number `begin` on."""
    length, blocks = word(plan, 0), 1
    count = word(plan, 1)
    for i in range(count):
        at = plan + 8 * (FIRST_STAGE + STAGE_FIELDS * i)
        radix = word(at, 0)
        length //= radix
        if i >= begin:
            moves = moves_first or i == count - 1
            to, to_step = (dst, dst_step) if moves else (src, src_step)
            call_function(word(at, 1), src, src_step, to, to_step, length, blocks, tw + word(at, 3))
            src, src_step = to, to_step
        blocks *= radix


@jit
def forward_taken(plan, taking, tw, roots, one, two, step, column, column_step, dst, dst_step, groups, dst_group):  # type: ignore[no-untyped-def]
    """Transform ``(one[i] + i two[i]) * conj(roots[i])``, vectors of reals at any alignment, into `dst`.

    So for `groups` vectors side by side, their results `dst_group` bytes apart. `column` is scratch for the elements of all
    groups, `taking` the address of the first stage (`build_taking_stage`); the other parameters are as in `forward`.
    """
    n = word(plan, 0)
    lr = n // word(plan, FIRST_STAGE)
    if word(plan, 1) == 1:
        call_function(taking, one, two, step, dst, dst_step, lr, tw, roots, groups, dst_group)
        return
    # An element more than they take, so that groups fall on different sets.
    column_group = (n + 1) * column_step
    call_function(taking, one, two, step, column, column_step, lr, tw, roots, groups, column_group)
    for group in range(groups):
        _forward_from(plan, tw, column + group * column_group, column_step, dst + group * dst_group, dst_step, False, 1)  # noqa: FBT003


@jit
def inverse(plan, tw, src, src_step, dst, dst_step, moves_first):  # type: ignore[no-untyped-def]
    """Transform back, unscaled, from digit-reversed frequencies. Parameters as in `forward`."""
    _inverse_from(plan, tw, src, src_step, dst, dst_step, moves_first, 0)


@jit
def _inverse_from(plan, tw, src, src_step, dst, dst_step, moves_first, begin):  # type: ignore[no-untyped-def]
    """Run the stages from number `begin` on, counted from the last one of the forward transform."""
    lr, blocks = 1, word(plan, 0)
    count = word(plan, 1)
    for k in range(count):
        at = plan + 8 * (FIRST_STAGE + STAGE_FIELDS * (count - 1 - k))
        radix = word(at, 0)
        blocks //= radix
        if k >= begin:
            moves = moves_first or k == count - 1
            to, to_step = (dst, dst_step) if moves else (src, src_step)
            call_function(word(at, 2), src, src_step, to, to_step, lr, blocks, tw + word(at, 3))
            src, src_step = to, to_step
        lr *= radix


@jit
def filtered(plan, middle_function, tw, at, step, u):  # type: ignore[no-untyped-def]
    """Transform the elements at `at`, multiply them with those at `u`, transform back: all in place, at least one stage."""
    length, blocks = word(plan, 0), 1
    count = word(plan, 1)
    for i in range(count - 1):
        stage = plan + 8 * (FIRST_STAGE + STAGE_FIELDS * i)
        radix = word(stage, 0)
        length //= radix
        call_function(word(stage, 1), at, step, at, step, length, blocks, tw + word(stage, 3))
        blocks *= radix
    call_function(middle_function, at, blocks, u)
    _inverse_from(plan, tw, at, step, at, step, True, 1)  # noqa: FBT003

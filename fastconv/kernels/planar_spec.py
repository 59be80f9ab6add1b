"""What a planar kernel is compiled for (`PlanarSpec`) and what it is told when it runs (`GEOMETRY`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv.kernels.planar_layout import load_offsets

#: Row offset that means: the row of padding values.
PAD_ROW = -(1 << 62)

#: Runtime parameters in one array of int64, in this order. Strides and steps are in bytes.
GEOMETRY = (
    "reduction",  # real input channels summed per output, and
    "reduction_step",  # the distance between them
    "src_step", "weights_step", "dst_step", "bias_step", "residual_step",  # from plane to plane
    "dst_row", "dst_channel",  # rows of the result; the MO channels of a tile
    "residual_row", "residual_channel",
    "pad_row",  # address of a row of padding values
    "right",  # first column of the vector at the right border
    "first", "tiles", "last",  # first column, number and last column of the tiles of V vectors between the borders
    "rest",  # first column of the tile of `rest` vectors
    "phase",  # distance between the column phases of a split row
    "activation", "limits",  # code, address of (low, high), see `fastconv.kernels.epilogue`
    # packing (`fastconv.kernels.planar_pack`)
    "packed_row",  # bytes of a packed row, all channels and parts
    "width", "src_column",  # columns of the source and the distance between them
    "shift",  # columns of left padding
    "margins", "margin_count",  # pairs (byte offset in the packed row, in the source row or PAD_ROW)
    "slack",  # byte offset in a phase of the vectors that are zeroed first
    "dst_column", "residual_column",  # pixels of a channels-last result
    # tasks (`fastconv.kernels.planar_run`)
    "kernel", "pack",  # addresses of the two functions
    "tasks", "strips", "chunks",  # tasks = images * chunks * strips
    "all_rows", "all_planes", "blocks",  # output rows; output planes, of which `blocks` share a group's source
    "src_image", "src_group", "src_channel", "dst_image", "residual_image",
    "row_table", "packed_rows",  # address of the row table; address of the table of packed rows
    "packed_nbytes",  # scratch of a task, 0 = the source is read in place
    "packed_channels",  # elements per pixel and group, complex ones counted once unless the source is channels-last
    "packed_groups", "packed_group",  # groups that are packed at a time; bytes of one in a packed row
    "tile_rows",  # R
    "row_stride",  # source rows from output row to output row
    "row_span",  # padded source rows that one output row reads
)  # fmt: skip


def geometry_words(**values: int) -> npt.NDArray[np.int64]:
    """Return the array of `GEOMETRY` with these words; those that a kernel does not look at may be left out."""
    places = {name: i for i, name in enumerate(GEOMETRY)}
    words = np.zeros(len(GEOMETRY), np.int64)
    for name, value in values.items():
        words[places[name]] = value
    return words


#: Parts of an epilogue, see `PlanarSpec.epilogue`.
BIAS, RESIDUAL, ACTIVATION = 1, 2, 4
#: Arrays that are channels-last, see `PlanarSpec.turns`: the source, result and residual.
SOURCE, RESULT = 1, 2


#: Padding modes whose columns beyond an end of a row lie in its first or last vector, from 1 on.
MIRRORS = ("", "symmetric", "reflect", "replicate")


class Edge(NamedTuple):
    """A vector at the end of a row: columns by which the load of the first tap begins before the row, and ends behind it."""

    before: int
    after: int
    width: int  # columns of the row, or a vector's if that is less


#: A vector all of whose loads lie inside the row.
INSIDE = Edge(0, -(1 << 30), 1 << 30)


class PlanarSpec(NamedTuple):
    """What a planar kernel is compiled for.

    Attributes
    ----------
    mo, r, v : int
        Register tile: real output channels, rows, vectors.
    rest : int
        Vectors of the one narrower tile of a row, 0 = none.
    kh, kw, sh, sw, dh, dw : int
        Kernel, strides, dilations.
    reduces : int
        1 if it loops over several input channels.
    border : int
        0 = no vector leaves the row, 1 = the row is one vector of `tail` columns, 2 = the first and the last vector
        of a row reach beyond its ends.
    left_before, right_before : int
        Columns by which the first (last) vector's load of the first tap begins before the row.
    left_after, right_after : int
        Columns by which the first (last) vector's load of the last tap ends behind the row.
    tail : int
        Columns of a row that is narrower than a vector; 0 otherwise.
    split : int
        1 if rows are split by column phase (j % sw) and packed; 0 if they are read in place.
    reloads : int
        1 if weights are loaded anew for each row of the kernel instead of being kept in registers.
    epilogue : int
        Sum of `BIAS`, `RESIDUAL` and `ACTIVATION`.
    parts : int
        Real numbers of an element of source, result and residual, which lie next to each other: 2 = complex. Each part is a
        channel to the sums, those of an output next to each other.
    turns : int
        Sum of `SOURCE` and `RESULT`, for those of the arrays that are channels-last, whose parts count as channels.
    margin : int
        What a load finds beyond the ends of a row that is read in place: 0 = zeros, else the place of a padding mode in `MIRRORS`.
    """

    mo: int
    r: int
    v: int
    rest: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    reduces: int
    border: int
    left_before: int
    right_before: int
    left_after: int
    right_after: int
    tail: int
    split: int
    reloads: int
    epilogue: int
    parts: int
    turns: int
    margin: int

    @property
    def deinterleaves(self) -> bool:
        """Whether vectors of a stride-2 row are taken apart in registers."""
        return self.sw == 2 and not self.split

    def edges(self, lanes: int) -> tuple[Edge, Edge]:
        """Return how the first and the last vector of a row reach beyond its ends."""
        farthest = max(load_offsets(self.kw, self.dw, lanes, deinterleaves=self.deinterleaves))
        left, right = self.left_after - farthest, self.right_after - farthest
        width = lanes - self.left_before - left if self.border == 1 and self.left_after else lanes
        return Edge(self.left_before, left, min(width, lanes)), Edge(self.right_before, right, lanes)

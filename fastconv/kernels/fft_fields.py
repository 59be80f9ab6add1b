"""Names of the numbers that the tile drivers share, in tables of int64 whose addresses they pass on.

Addresses compile in half the time of arrays: `word` reads a number, see `fastconv.kernels.function_pointers`.
"""

from __future__ import annotations

#: What stands in the lanes (PLACE).
CHANNELS, TILES, COLUMNS = range(3)
#: Bytes of a row of the table RUNS.
RUN_NBYTES = 32
#: Bytes of the description of a lane.
LANE_NBYTES = 64
#: A thread's scratch memory begins with those of two slots of up to 16 lanes, then two vectors of flags for broken lanes, then Z.
FLAGS_AT = 32 * LANE_NBYTES
DESCRIPTIONS_NBYTES = FLAGS_AT + 128
#: Groups of columns of a plane that are read together at most.
GROUPS_AT_ONCE = 4

# Fields of the table `g`. Geometry: items are (image, row phase, column phase, tile row, tile column). Channels are
# source channels times the stride phases (SBH, SBW). A tile reads COLUMNS_READ numbers of each of ROWS_READ rows: TW of TH, but for lines;
# planes read twice TH rows. PARTS of a tile are for one thread each; ITEMS is the number of tiles of a plane.
(
    SIZE, LANES, ELEMENT, PLACE, TH, TW, Z_ROW, N, IC, OC, GROUPS, ICG, OCG, IN_SLOTS, OUT_SLOTS, PHH, PHW, SBH, SBW, TY, TX,
    STEP_H, STEP_W, H_LENGTH, W_LENGTH, OH, OW, COLUMN_STEP, PAIRS, U_STEP, SCRATCH, CODE, IS_PLAIN, IS_DEPTHWISE, MULTIPLIER,
    KH, KW, SH, SW, DH, DW, SOURCE_ICG, ROWS_READ, COLUMNS_READ,
    PARTS, ITEMS, FIELDS,
) = range(47)  # fmt: skip
# Fields of the table `v`: address and strides in elements of source, result and residual; addresses of the rest.
(
    X, XN, XC, XH, XW, Y, YN, YC, YH, YW, R, RN, RC, RH, RW, BIAS, LIMITS, WEIGHTS, U, SPECTRA, PRODUCTS, SCRATCHES, TW_H, TW_W,
    PLAN_H, PLAN_W, MIDDLE, TAKING, COLUMN_PAIRS, NEGATIVE, INDEX_H, INDEX_W, ROWS_AT, COLS_AT, RUNS, TWISTS, ROOTS, VIEW_FIELDS,
) = range(38)  # fmt: skip
# Of a lane's description: where it is read from,
(BASE, H_AT, W_AT, RUN, DIRTY, VALID, LANE_FIELDS) = range(7)
# and where its results go.
(N_AT, O_AT, OH_AT, OW_AT, HEIGHT, WIDTH, TARGET_FIELDS) = range(7)

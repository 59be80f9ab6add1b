"""The tables that the driver of dense convolution works from, and the places of their numbers."""

from __future__ import annotations

# Fields of the table `g` that describes a layout, see fastconv.kernels.dense_layout.DenseLayout.
(
    SIZE, GROUPS, IC, OC, OH, OW, IH, IW, SH, SW, PW_LO, K, STEPS, FLAT, BLOCKS, BLOCK, SPLITS, IS_PIXELS, IN_PLACE,
    LANES, NR, MR, PITCH, ROW_SLOT, COLUMN_SLOT, RUN, PLANE, ROW_SLOTS, COLUMN_SLOTS, STRIP_AT, PANELS_AT, TILE_AT, SUMS_AT,
    SCRATCH, ACTIVATION, OC_PADDED, TILES, PADDED_ROWS, PARTS, LEAST_PACKING, READS_PIXELS,
    TASKS, IS_REGION, ROW, COLUMN, IS_PLACED, PLACES_AT, BATCH, IMAGES, IMAGE, PANEL_PITCH, HAS_MASKS, FIELDS,
) = range(53)  # fmt: skip
# Fields of the table `v`: strides in elements of source, result and residual.
(XN, XC, XH, XW, YN, YC, YH, YW, RN, RC, RH, RW, VIEW_FIELDS) = range(13)
# Addresses in the table of tables that a call hands to its tasks, see fastconv.kernels.dense.dense.
(FUNCTIONS, LAYOUT, VIEW, OFFSETS, REGISTER_TILES, ROWS, COLUMNS, SLOTS, PIECES, PANEL_ROWS, WEIGHTS, BIAS, LIMITS, TABLES) = range(14)
# Numbers of a piece of k, see fastconv.kernels.dense_geometry.Step.
(STEP_K, STEP_PACKED, STEP_AT, STEP_COUNT, STEP_CHANNEL, STEP_CHANNELS, STEP_WORDS) = range(7)
#: Words of a thread for the places of a panel's vectors or lanes.
WHERE_WORDS = 64

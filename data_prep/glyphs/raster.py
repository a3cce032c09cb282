"""Polygons to antialiased images, many at a time.

This uses its own rasteriser, not Pillow's, since FreeType's changes from release to release: here the
same outlines give the same pixels everywhere.
"""

import numpy as np

from data_prep.glyphs.outlines import Outlines
from data_prep.store.format import Images

_LINES = 8  # scan lines a pixel; along a line the coverage is exact

# Rounding to this grid takes away the last bits, in which sines of different machines differ.
_GRID = 1024


def rasterise(outlines: Outlines, size: int) -> Images:
    """Fill polygons by the non-zero rule: uint8 (drawings, size, size), 255 inside and 0 outside.

    Coordinates are in pixels, y downwards. A drawing must not leave the image.
    """
    start = np.rint(outlines.points * _GRID) / _GRID
    end = start[outlines.following]
    image, count = outlines.owner, len(outlines.starts)
    rows = size * _LINES
    first = np.ceil(np.minimum(start[:, 1], end[:, 1]) * _LINES - 0.5).astype(np.int64)
    last = np.ceil(np.maximum(start[:, 1], end[:, 1]) * _LINES - 0.5).astype(np.int64)
    crossings = last - first
    edge = np.repeat(np.arange(len(crossings)), crossings)
    line = np.arange(crossings.sum()) - np.repeat(np.cumsum(crossings) - crossings, crossings) + first[edge]
    slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
    x = start[edge, 0] + ((line + 0.5) / _LINES - start[edge, 1]) * slope
    direction = np.where(end[edge, 1] > start[edge, 1], 1.0, -1.0)
    # A crossing covers its pixel from x on and all pixels behind it: two steps of a sum along the line.
    column = np.clip(np.floor(x), 0, size - 1).astype(np.int64)
    part = np.clip(x - column, 0.0, 1.0)
    at = (image[edge] * rows + line) * (size + 1) + column
    length = count * rows * (size + 1)
    steps = np.bincount(at, direction * (1 - part), length) + np.bincount(at + 1, direction * part, length)
    winding = np.cumsum(steps.reshape(-1, size + 1), axis=1)[:, :size]
    coverage = np.minimum(np.abs(winding), 1.0).reshape(count, size, _LINES, size).mean(axis=2)
    # A grid far coarser than the sums' errors, so that they cannot decide a rounding.
    levels: Images = np.rint(np.rint(coverage * 2**20) * (255 / 2**20)).astype(np.uint8)
    return levels

"""Metadata that would cost more than the picture, detected before Pillow reads it.

On opening a TIFF, or a JPEG with EXIF data, Pillow turns some of its tags into Python's numbers: a file of
8 MB with a million fractions as its resolution took 300 MB and 13 seconds.
"""

import struct
from collections.abc import Iterator

from data_prep.fitting import MOST_EXIF_BYTES

# The tables of a picture of 64 million pixels with a strip for each row have 16,000 to 130,000 numbers, the
# palette of 16 bits 196,608. There are 2 to 14 fractions: resolutions, white point, primary colours.
_MOST_NUMBERS, _MOST_FRACTIONS = 500_000, 1_000

_BYTES, _FRACTIONS = (1, 2, 6, 7), (5, 10)  # types of values

# Each segment has 64 KiB at most; Pillow joins them.
_EXIF_SEGMENT = b"Exif\0\0"


def check_metadata(data: bytes) -> None:
    """ValueError for a file whose metadata no camera, scanner or program writes; others are let through."""
    if data.startswith(b"\xff\xd8") and data.count(_EXIF_SEGMENT) > MOST_EXIF_BYTES >> 16:
        raise ValueError("its EXIF data are larger than any camera writes")
    if data[:2] in (b"II", b"MM"):
        numbers = fractions = 0
        for kind, count in _tags(data):
            numbers += 0 if kind in _BYTES else count
            fractions += count if kind in _FRACTIONS else 0
        if numbers > _MOST_NUMBERS or fractions > _MOST_FRACTIONS:
            raise ValueError(f"its tags have {numbers:,} numbers, more than a picture needs")


def _tags(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield type and number of values of the tags of a TIFF's first picture; none where it is cut short."""
    order = "<" if data[:2] == b"II" else ">"
    big = b"+" in data[2:4]  # BigTIFF, whose offsets have 8 bytes
    try:
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (tags,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        first, size = start + (8 if big else 2), 20 if big else 12
        for tag in range(min(tags, len(data) // size)):
            _, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, first + tag * size)
            yield kind, count
    except (struct.error, OverflowError):
        return

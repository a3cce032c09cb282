"""How a sum over pixels is divided among the programs of a kernel."""

from __future__ import annotations

_FILLING = 1024
"""Programs that fill a large GPU."""
AT_ONCE = 264
"""Programs that a large GPU runs at once, if they are large; with more there are more shares to be summed."""


def shared(pixels: int, block: int, programs: int, most: int = _FILLING) -> tuple[int, int]:
    """Into how many shares pixels go, and how many a share has: whole blocks, but for the end of the last.

    So many ``programs`` work on each share; all together are about ``most``. A share has four blocks or more,
    where there are so many. It follows from the shapes alone: sums have the same bits each time.
    """
    assert pixels > 0, "the images are too small: no pools are left"
    shares = max(1, min(_up(most, programs), pixels // (4 * block)))
    per = _up(_up(pixels, shares), block) * block
    return _up(pixels, per), per


def _up(number: int, by: int) -> int:
    """The quotient, rounded up."""
    return -(-number // by)

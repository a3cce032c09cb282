"""Closed polygons, many drawings in one set of arrays, so that NumPy bends and fills them all at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Outlines:
    """Polygons of one or more drawings.

    `points` float64 (P, 2), those of a drawing side by side; `following` int64 (P,), for each point the index
    of the next one on its polygon; `starts` int64 (drawings,), where the points of each drawing begin.
    """

    points: Points
    following: NDArray[np.int64]
    starts: NDArray[np.int64]

    @property
    def owner(self) -> NDArray[np.int64]:
        """The drawing of each point, int64 (P,)."""
        ends = np.append(self.starts[1:], len(self.points))
        return np.repeat(np.arange(len(self.starts)), ends - self.starts)

    def bounds(self) -> tuple[Points, Points]:
        """Lowest and highest coordinates of each drawing, each float64 (drawings, 2)."""
        return np.minimum.reduceat(self.points, self.starts), np.maximum.reduceat(self.points, self.starts)


def from_contours(contours: Sequence[Points]) -> Outlines:
    """Make one drawing of closed contours, each (points, 2)."""
    ends = np.cumsum([len(contour) for contour in contours])
    following = np.arange(1, ends[-1] + 1)
    following[ends - 1] = np.append(0, ends[:-1])  # the last point of a contour leads to its first
    return Outlines(np.concatenate(contours), following, np.zeros(1, np.int64))


def join(parts: Sequence[Outlines]) -> Outlines:
    """Put the drawings of several outlines into one."""
    offsets = np.cumsum([0, *(len(part.points) for part in parts)])[:-1]
    return Outlines(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.following + offset for part, offset in zip(parts, offsets, strict=True)]),
        np.concatenate([part.starts + offset for part, offset in zip(parts, offsets, strict=True)]),
    )

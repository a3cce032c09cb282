"""Arrays of pixels: one or several, and which rows belong to which class."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.archives import Tree
from data_prep.resizing import resized
from data_prep.store.format import Images
from data_prep.stored_arrays import StoredArray

Places = NDArray[np.int64]
"""Places of the images of a class, (n, 2): index of the array, row."""

_ROWS = 256  # read at a time
_MAX_LABELS = 10_000_000


def _as_they_are(rows: NDArray[Any]) -> Images:
    return rows


@dataclass(frozen=True)
class ArrayImages:
    """Images that are rows of arrays in files; a `Collection`.

    `places` has the images of each class in order; `to_pixels` turns rows into uint8 (n, H, W, C); `splits`
    has the classes of each split where the source and not the dataset's lists says it.
    """

    form: str
    tree: Tree
    arrays: Sequence[StoredArray]
    places: Mapping[str, Places]
    to_pixels: Callable[[NDArray[Any]], Images] = _as_they_are
    splits: Mapping[str, list[str]] | None = None
    whose_split: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of images by class name."""
        return {name: len(places) for name, places in self.places.items()}

    def blocks(
        self, classes: Sequence[str], image_size: int, workers: int | None
    ) -> Iterator[tuple[int, Images]]:
        """Yield (index into `classes`, uint8 images); reading is all there is to do, by one thread."""
        for index, name in enumerate(classes):
            places = self.places[name]
            for first in range(0, len(places), _ROWS):
                yield index, resized(self._read(places[first : first + _ROWS]), image_size, 3)

    def sha256(self) -> str:
        """Return the checksum of the archive, or of the files read."""
        return self.tree.sha256()

    def notes(self) -> list[str]:
        """Return what the user should know about this form."""
        return self.remarks

    def _read(self, places: Places) -> Images:
        order = np.argsort(places[:, 0], kind="stable")
        parts = [
            self.to_pixels(self.arrays[array].rows(places[places[:, 0] == array, 1]))
            for array in np.unique(places[:, 0])
        ]
        return np.ascontiguousarray(np.concatenate(parts)[np.argsort(order)])


def is_images(value: object, side: int) -> bool:
    """Whether a value is an array of colour images of one size: uint8 (N, side, side, 3)."""
    if not isinstance(value, StoredArray) or value.dtype != np.uint8:
        return False
    return len(value.shape) == 4 and value.shape[1:] == (side, side, 3)


def length(value: object) -> int:
    """Return how many labels or indices there are in a list or an array; 0 where it is neither."""
    if isinstance(value, StoredArray):
        return value.shape[0] if value.shape else 0
    return len(value) if isinstance(value, list) else 0


def whole_numbers(value: object) -> NDArray[np.int64] | None:
    """Return labels, a list or an array of whole numbers, as int64 (n,); None if they are none."""
    if isinstance(value, StoredArray):
        if len(value.shape) != 1 or value.dtype.kind not in "iu" or value.shape[0] > _MAX_LABELS:
            return None
        return value.load().astype(np.int64)
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        return None
    try:
        return np.array(value, np.int64)
    except OverflowError:
        return None


def rows_by_label(labels: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Return the rows of each label, in order."""
    order = np.argsort(labels, kind="stable")
    values, starts = np.unique(labels[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))


def places_in(array: int, rows: NDArray[np.int64]) -> Places:
    """Return the places of rows of one array."""
    return np.stack([np.full(len(rows), array, np.int64), rows], axis=1)

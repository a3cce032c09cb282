"""The forms in which tieredImageNet is distributed: for each split, images in one file, labels in another."""

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.archives import Tree, lacking, where
from data_prep.archives.base import begins_with, check_size, readable
from data_prep.archives.zips import ZipTree
from data_prep.errors import DataError, NoRoom, shortened
from data_prep.forms import Collection
from data_prep.forms.arrays import ArrayImages, is_images, places_in, rows_by_label, whole_numbers
from data_prep.forms.class_folders import Files
from data_prep.forms.encoded import EncodedImages
from data_prep.forms.pickled import Pickles, read_pickles
from data_prep.images import Decoding
from data_prep.pickles import names_of
from data_prep.store.format import Images
from data_prep.stored_arrays import OpenFile, StoredArray, open_npy

_MEMBER = "images.npy"  # of a .npz: the array `images`
_ZIP = b"PK\3\4"
_MAX_NAMES_BYTES = 1 << 20

Counts = Mapping[str, tuple[int, int]]
"""Numbers of classes and images of each split."""


@dataclass(frozen=True)
class _Labels:
    """A file of labels: the label of each image, and the names of the labels if it has them."""

    name: str
    labels: NDArray[np.int64]
    names: list[str]


@dataclass(frozen=True)
class _Split:
    """The file that has the images of one split, and the rows of each class."""

    name: str
    rows: dict[str, NDArray[np.int64]]


class PickledFiles:
    """Encoded images in lists of arrays, as files named FILE#NUMBER."""

    def __init__(self, tree: Tree, lists: Mapping[str, list[StoredArray]]) -> None:
        self.path = tree.path
        self._tree = tree
        self._lists = lists

    def read(self, name: str) -> bytes:
        """Return an encoded image."""
        file, _, number = name.rpartition("#")
        image = self._lists[file][int(number)]
        check_size(image.nbytes, self.path, name)
        return image.tobytes()

    def sha256(self) -> str:
        """Return the checksum of the archive, or of the pickles."""
        return self._tree.sha256()


def find_png_pickles(tree: Tree, counts: Counts, side: int) -> Collection | None:
    """Find lists of arrays, each an encoded PNG file, and their labels."""
    pickles = read_pickles(tree)
    lists = {
        name: value
        for name, value in pickles.values.items()
        if isinstance(value, list) and value and all(_is_encoded(item) for item in value)
    }
    if not lists and not any(_split_of(own, counts) for own in _read_labels(tree, pickles)):
        if pickles.fault:
            raise pickles.fault
        return None
    sizes = {name: len(value) for name, value in lists.items()}
    splits = _labelled(tree, sizes, pickles, counts)
    files: Files = {
        label: [f"{split.name}#{row}" for row in rows.tolist()]
        for split in splits.values()
        for label, rows in split.rows.items()
    }
    return EncodedImages(
        f"pickles of PNG files ({tree.kind})",
        PickledFiles(tree, lists),
        files,
        Decoding(size=side, channels=3, formats=("PNG",), native=side),
        {name: sorted(split.rows) for name, split in splits.items()},
    )


def find_npz_arrays(tree: Tree, counts: Counts, side: int) -> Collection | None:
    """Find .npz files of `images` uint8 (N, side, side, 3), blue before red, and their labels."""
    arrays: dict[str, StoredArray] = {}
    fault: DataError | None = None
    for name in tree.names():
        try:
            if begins_with(tree, name, _ZIP) and (array := _open_npz(tree, name, side)) is not None:
                arrays[name] = array
        except NoRoom:
            raise
        except DataError as error:  # of a stranger, perhaps
            fault = fault or error
    if not arrays:
        if fault:
            raise fault
        return None
    pickles = read_pickles(tree)
    pickles = replace(pickles, fault=fault or pickles.fault)
    sizes = {name: array.shape[0] for name, array in arrays.items()}
    splits = _labelled(tree, sizes, pickles, counts)
    places = {
        label: places_in(index, rows)
        for index, split in enumerate(splits.values())
        for label, rows in split.rows.items()
    }
    return ArrayImages(
        f"npz arrays, blue and red swapped back ({tree.kind})",
        tree,
        [arrays[split.name] for split in splits.values()],
        places,
        _red_first,
        {name: sorted(split.rows) for name, split in splits.items()},
    )


def _is_encoded(value: object) -> bool:
    """Whether a value is an array of bytes: (n,), or a column or row, as some OpenCVs write them."""
    if not isinstance(value, StoredArray) or value.dtype != np.uint8:
        return False
    return len(value.stored) == 1 or (len(value.stored) == 2 and 1 in value.stored)


def _open_npz(tree: Tree, name: str, side: int) -> StoredArray | None:
    """Open the array of a .npz, in place where it is not compressed; None for any other archive."""
    archive = ZipTree(Path(where(tree.path, name)), tree.open(name))
    tree.keep(archive)
    if _MEMBER not in archive.names():
        return None
    array = open_npy(OpenFile.of(archive, _MEMBER))
    if not is_images(array, side):
        raise DataError(
            f"{where(tree.path, name)} has no images of {side} × {side} pixels; get a fresh copy."
        )
    return array


def _red_first(rows: NDArray[Any]) -> Images:
    """Return images as red, green, blue: OpenCV, which wrote them, has these in the other order."""
    return rows[..., ::-1]


def _labelled(tree: Tree, sizes: Mapping[str, int], pickles: Pickles, counts: Counts) -> dict[str, _Split]:
    """Join images and labels of as many images, and tell the splits apart by their numbers of classes.

    `sizes` are the numbers of images of the files that have some.
    """
    found: dict[str, tuple[str, _Labels]] = {}
    lonely: set[str] = set()  # splits whose labels fit no images
    for labels in _read_labels(tree, pickles):
        fitting = [name for name, size in sizes.items() if size == len(labels.labels)]
        split = _split_of(labels, counts)
        if split is None:
            continue
        if not fitting:
            lonely.add(split)
            continue
        twice = "labels" if split in found else "images" if len(fitting) > 1 else None
        if twice:
            name = shortened(labels.name if twice == "labels" else fitting[1])
            raise DataError(f"{tree.path} holds {twice} of {split} more than once ({name}); remove one.")
        found[split] = fitting[0], labels
    if len(found) < len(counts):
        missing = _missing_parts(found.keys(), lonely, set(sizes.values()), counts)
        raise pickles.fault or lacking(tree, "tieredImageNet", missing)
    seen: Counter[str] = Counter()
    result = {}
    for split in counts:
        name, labels = found[split]
        rows = {
            _class_name(split, labels, label, seen): own
            for label, own in rows_by_label(labels.labels).items()
        }
        result[split] = _Split(name, rows)
    return result


def _split_of(labels: _Labels, counts: Counts) -> str | None:
    """Return the split that has as many classes as these labels."""
    numbers = len(np.unique(labels.labels))
    return next((split for split, (classes, _) in counts.items() if classes == numbers), None)


def _missing_parts(
    found: Set[str], with_labels: Set[str], numbers_of_images: Set[int], counts: Counts
) -> list[str]:
    """Say which of the six parts are missing; images without labels are told by how many they are."""
    missing = []
    for split in [split for split in counts if split not in found]:
        images, labels = counts[split][1] in numbers_of_images, split in with_labels
        if not images:
            missing.append(f"{split} images")
        if not labels:
            missing.append(f"{split} labels")
        elif images:
            missing.append(f"{split} labels that fit its images")
    return missing


def _class_name(split: str, labels: _Labels, label: int, seen: Counter[str]) -> str:
    """Return the name of a label; a number tells those apart that have the same name.

    ImageNet has a crane that flies and one that lifts.
    """
    name = labels.names[label] if 0 <= label < len(labels.names) else f"{split} {label:03}"
    seen[name] += 1
    return name if seen[name] == 1 else f"{name} ({seen[name]})"


def _read_labels(tree: Tree, pickles: Pickles) -> list[_Labels]:
    """Return what the dicts with `label_specific` or, beside .npz files, `labels` hold."""
    result: list[_Labels] = []
    for name, value in [*pickles.dicts("label_specific"), *pickles.dicts("labels")]:
        if any(known.name == name for known in result):
            continue
        labels = whole_numbers(value.get("label_specific", value.get("labels")))
        if labels is None and "label_specific" not in value:
            continue  # a stranger
        if labels is None or not len(labels):
            raise DataError(
                f"{where(tree.path, name)} has labels that are not whole numbers; get a fresh copy."
            )
        result.append(_Labels(name, labels, _texts(value.get("label_specific_str"))))
    return result


def _texts(value: object) -> list[str]:
    """Return names of classes, [] where they are none."""
    if isinstance(value, StoredArray):
        if value.dtype.kind not in "SU" or len(value.shape) != 1 or value.nbytes > _MAX_NAMES_BYTES:
            return []
        with readable(value.source.path, value.source.name):  # there may be characters beyond Unicode
            value = value.load().tolist()
    names = names_of(value) or []
    return names if all(name and name.isprintable() for name in names) else []

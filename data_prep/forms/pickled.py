"""Pickles of a tree: found by content, and what several forms have in common."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from data_prep.archives import Tree, lacking, where
from data_prep.errors import DataError, NoRoom, OfStranger, shortened
from data_prep.fitting import SUFFIXES
from data_prep.forms.arrays import ArrayImages, is_images, places_in, rows_by_label, whole_numbers
from data_prep.forms.class_folders import check_counts
from data_prep.pickles import Budget, looks_like_pickle, read_pickle
from data_prep.stored_arrays import StoredArray


@dataclass(frozen=True)
class Pickles:
    """The pickles of a tree by name, and the first complaint about one that could not be read."""

    values: dict[str, object]
    fault: DataError | None

    def dicts(self, *keys: str) -> Iterator[tuple[str, Mapping[object, object]]]:
        """Yield name and value of each that is a dict with these keys."""
        for name, value in self.values.items():
            if isinstance(value, dict) and value.keys() >= set(keys):
                yield name, value


_known: WeakKeyDictionary[Tree, Pickles] = WeakKeyDictionary()


@dataclass(frozen=True)
class Part:
    """Images of one file: an array, and the rows of each class."""

    name: str
    images: StoredArray
    rows: dict[str, NDArray[np.int64]]


def read_pickles(tree: Tree) -> Pickles:
    """Read all pickles of a tree; one that cannot be read may be a stranger, and is only remembered.

    They are read once, though several forms ask for them.
    """
    if tree not in _known:
        _known[tree] = _read_all(tree)
    return _known[tree]


def _read_all(tree: Tree) -> Pickles:
    values: dict[str, object] = {}
    fault: DataError | None = None
    budget = Budget()
    for name in tree.names():
        if PurePosixPath(name).suffix.lower() in SUFFIXES:
            continue
        try:
            if looks_like_pickle(tree.head(name, 4)):
                with budget.given_back_if_refused():
                    values[name] = read_pickle(tree, name, budget)
        except NoRoom:
            raise
        except DataError as error:
            if fault is None:
                fault = OfStranger(str(error))
                fault.__cause__ = error
    return Pickles(values, fault)


def labelled_part(tree: Tree, name: str, value: Mapping[object, object], side: int) -> Part | None:
    """Return what a dict with `data` and `labels` holds; None if its images have another size.

    Classes have the names of `catname2label` where it is there, else their labels in three digits. DataError
    where labels and images do not fit each other.
    """
    images = value["data"]
    if not isinstance(images, StoredArray) or not is_images(images, side):
        return None
    labels = whole_numbers(value["labels"])
    if labels is None or len(labels) != images.shape[0]:
        raise DataError(f"{where(tree.path, name)} does not have one label for each image; get a fresh copy.")
    known = value.get("catname2label")
    known = known if isinstance(known, dict) else {}
    # Nothing else has a hash that is safe to ask for: that of nested tuples could exhaust the stack of C.
    if not all(type(label) is int for label in known.values()):
        raise DataError(
            f"{where(tree.path, name)} has values in catname2label that are not whole "
            "numbers; get a fresh copy."
        )
    names = {label: text for text, label in known.items()}
    rows = rows_by_label(labels)
    if names and not all(isinstance(names.get(label), str) for label in rows):
        raise DataError(
            f"{where(tree.path, name)} has labels without a name in catname2label; get a fresh copy."
        )
    return Part(name, images, {names.get(label, f"{label:03}"): own for label, own in rows.items()})


def one_part_each(tree: Tree, found: Mapping[str, list[Part]], what: str) -> dict[str, Part] | None:
    """Return the one part of each split; None if no split has one, DataError if some have not one."""
    for split, parts in found.items():
        if len(parts) > 1:
            names = " and ".join(shortened(part.name) for part in parts[:2])
            raise DataError(f"{tree.path} holds {split} of {what} more than once ({names}); remove one.")
    missing = [split for split, parts in found.items() if not parts]
    if len(missing) == len(found):
        return None
    if missing:
        raise lacking(tree, what, missing)
    return {split: parts[0] for split, parts in found.items()}


def join_parts(
    tree: Tree,
    pickles: Pickles,
    found: Mapping[str, list[Part]],
    what: str,
    form: str,
    images_per_class: int,
    remarks: Sequence[str] = (),
) -> ArrayImages | None:
    """Join the parts of the splits of `what`; None if there is none of them.

    DataError if a split has not one part, a class is in two, or not all of its images are there.
    """
    parts = one_part_each(tree, found, what)
    if parts is None:
        if pickles.fault:
            raise pickles.fault
        return None
    places = {
        name: places_in(index, rows)
        for index, part in enumerate(parts.values())
        for name, rows in part.rows.items()
    }
    if len(places) != sum(len(part.rows) for part in parts.values()):
        raise DataError(f"{tree.path} has a label in two splits of {what}; get fresh copies of the pickles.")
    check_counts(tree, places, images_per_class)
    return ArrayImages(
        f"{form} ({tree.kind})",
        tree,
        [part.images for part in parts.values()],
        places,
        splits={split: sorted(part.rows) for split, part in parts.items()},
        remarks=list(remarks),
    )

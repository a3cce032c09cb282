"""CIFAR-100, which CIFAR-FS and FC100 split in two ways: its classes, and the forms it comes in."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.archives import Tree, lacking, where
from data_prep.errors import DataError
from data_prep.forms import Collection, Form
from data_prep.forms.arrays import ArrayImages, whole_numbers
from data_prep.forms.class_folders import Files, check_counts, class_roots, find_class_folders
from data_prep.forms.encoded import EncodedImages
from data_prep.forms.parquet import read_tables
from data_prep.forms.pickled import read_pickles
from data_prep.images import Decoding
from data_prep.pickles import names_of
from data_prep.sources.base import read_list
from data_prep.store.format import Images
from data_prep.stored_arrays import StoredArray

IMAGE_SIZE = 32
IMAGES_CITATION = "Images: Krizhevsky: Learning multiple layers of features from tiny images. 2009."
TERMS = "Research use; the images are from the 80 Million Tiny Images collection, which has been withdrawn."

IMAGES_PER_CLASS = 600
_DECODING = Decoding(size=IMAGE_SIZE, channels=3, formats=("PNG",), native=IMAGE_SIZE)


def superclasses() -> dict[str, list[str]]:
    """Return the five classes of each of the 20 superclasses."""
    lines = (line.split(": ") for line in read_list("cifar100/superclasses.txt"))
    return {name: members.split() for name, members in lines}


def class_names() -> list[str]:
    """Return the 100 classes by label: the official labels number them in alphabetical order."""
    return sorted(name for members in superclasses().values() for name in members)


def find_png_folders(tree: Tree) -> Collection | None:
    """Find <anything>/<class>/*.png for the 100 classes, official train and test parts joined."""
    files = _joined_parts(tree) or find_class_folders(tree, class_names(), ".png", "CIFAR-100")
    if files is None:
        return None
    check_counts(tree, files, IMAGES_PER_CLASS)
    return EncodedImages(f"class folders of PNG files ({tree.kind})", tree, files, _DECODING)


def _joined_parts(tree: Tree) -> Files | None:
    """Return the images of two folders that are the official train and test, None if there are not those.

    They are told from copies by their sizes: 500 and 100 images of each class, or fewer where some are
    missing. The images are sorted by their own names, as if they lay in one folder.
    """
    roots = [files for files in class_roots(tree, set(class_names()), ".png").values() if len(files) == 100]
    if len(roots) != 2:
        return None
    first, second = roots
    sizes = [sorted((len(first[name]), len(second[name]))) for name in class_names()]
    if not all(test < IMAGES_PER_CLASS / 2 < train < IMAGES_PER_CLASS for test, train in sizes):
        return None
    return {name: sorted(first[name] + second[name], key=_own_name) for name in class_names()}


def _own_name(file: str) -> tuple[str, str]:
    return file.rsplit("/", 1)[-1], file


def find_official_pickles(tree: Tree) -> Collection | None:
    """Find the original's train and test: `data` uint8 (N, 3072), `fine_labels` and `filenames`."""
    pickles = read_pickles(tree)
    arrays: list[StoredArray] = []
    images: list[tuple[int, str, int, int]] = []  # label, file name, array, row: as they are to be sorted
    for name, value in pickles.dicts("data", "fine_labels", "filenames"):
        data, labels = value["data"], whole_numbers(value["fine_labels"])
        files = names_of(value["filenames"])
        if not isinstance(data, StoredArray) or data.dtype != np.uint8 or data.shape[1:] != (3072,):
            raise DataError(
                f"{where(tree.path, name)} has no images of 32 × 32 pixels in `data`; get a fresh copy."
            )
        if labels is None or files is None or not data.shape[0] == len(labels) == len(files):
            raise DataError(
                f"{where(tree.path, name)} does not have a label and a file name for each "
                "image; get a fresh copy."
            )
        images += zip(labels.tolist(), files, [len(arrays)] * len(files), range(len(files)), strict=True)
        arrays.append(data)
    if not arrays:
        if pickles.fault:
            raise pickles.fault
        return None
    known = class_names()
    if len(arrays) == 1 and len(images) < len(known) * IMAGES_PER_CLASS:
        train = len(images) > len(known) * IMAGES_PER_CLASS / 2
        raise lacking(tree, "CIFAR-100", ["test" if train else "train"])
    if len(images) > len(known) * IMAGES_PER_CLASS:
        raise DataError(f"{tree.path} holds CIFAR-100 more than once; pass a folder that holds it once.")
    images.sort()
    places: dict[str, list[tuple[int, int]]] = {name: [] for name in known}
    for label, _, array, row in images:
        if not 0 <= label < len(known):
            raise DataError(
                f"{tree.path} has the label {label}, which CIFAR-100 does not have; get a fresh copy."
            )
        places[known[label]].append((array, row))
    check_counts(tree, places, IMAGES_PER_CLASS)
    form = f"official pickles of CIFAR-100 ({tree.kind})"
    sorted_places = {name: np.array(own, np.int64) for name, own in places.items()}
    return ArrayImages(form, tree, arrays, sorted_places, _channels_last)


def find_parquet(tree: Tree) -> Collection | None:
    """Find the tables of uoft-cs/cifar100: columns `img` and `fine_label`, all parts joined."""
    tables = read_tables(tree, "img", "fine_label")
    if tables is None:
        return None
    tables.check_complete("uoft-cs/cifar100", ("train", "test"), 100 * IMAGES_PER_CLASS)
    # By label: among the names that these tables bring along is "cra", which is the crab.
    files = tables.files_by_class(dict(enumerate(class_names())))
    check_counts(tree, files, IMAGES_PER_CLASS)
    return EncodedImages(f"parquet of uoft-cs/cifar100 ({tree.kind})", tables, files, _DECODING)


def _channels_last(rows: NDArray[Any]) -> Images:
    """Return rows of 3072 as images: the originals have all red values first, then green, then blue."""
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


FORMS: tuple[Form, ...] = (find_png_folders, find_official_pickles, find_parquet)
FORM_NAMES = (
    "CLASS/*.png of the 100 classes",
    "cifar-100-python/{train,test}",
    "parquet of uoft-cs/cifar100",
)

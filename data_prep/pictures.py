"""Pictures outside any store, to learn from and to be labelled: found, and prepared like a store's images."""

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from data_prep.archives import FileTree, FolderTree, open_tree
from data_prep.archives.base import check_size, readable
from data_prep.errors import DataError, WrongUsage, shortened
from data_prep.forms.own_folders import composed
from data_prep.forms.own_images import find_own_images, image_files
from data_prep.images import decode_files, strict_pillow
from data_prep.preparation import Preparation
from data_prep.store.format import Images


@dataclass(frozen=True)
class Support:
    """The pictures to learn from.

    `classes`, sorted; `images` uint8 (N, H, W, C), class by class; `labels` int64 (N,), places in `classes`;
    `files` are their names below the folder; `notes` are sentences that the user should be told.
    """

    classes: list[str]
    images: Images
    labels: NDArray[np.int64]
    files: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Query:
    """A picture to be labelled, and the class that the folder it lies in is called after, if it is one."""

    path: str
    truth: str | None = None


def read_support(
    folder: Path, how: Preparation, on_classes: Callable[[list[str]], None] = lambda _: None
) -> Support:
    """Read a folder, or an archive, of class folders; ``on_classes`` hears the classes first, and may raise.

    DataError if there are none or one, or a picture cannot be used.
    """
    with strict_pillow(), open_tree(folder) as tree:
        if isinstance(tree, FileTree):
            raise DataError(f"{folder} is not a folder; pass one that has a folder of images for each class.")
        found = find_own_images(tree, how.fit, how.channels)
        if found.splits is not None:
            raise DataError(f"{folder} has folders for train, val and test; pass one of them.")
        classes = sorted(found.files)
        if len(classes) < 2:
            raise DataError(
                f"{folder} has images of only one class, {shortened(classes[0])!r}; there must be two or "
                "more, each in a folder of its own."
            )
        on_classes(classes)
        images, labels = [], []
        for label, block in decode_files(tree, [found.files[name] for name in classes], how.decoding, None):
            images.append(block)
            labels.append(np.full(len(block), label, np.int64))
    files = [file for name in classes for file in found.files[name]]
    return Support(classes, np.concatenate(images), np.concatenate(labels), files, found.passed_over)


def find_queries(given: Sequence[str], classes: Sequence[str]) -> tuple[list[Query], list[str]]:
    """The pictures that are meant by files, folders and patterns (`*`, `**`), each once, with notes.

    What lies in a folder that is called as one of the classes, below a folder given, is taken to be of that
    class. DataError if something given is not there, or has no pictures.
    """
    found: dict[str, Query] = {}
    notes: list[str] = []
    for text in given:
        for path in _matching(text):
            queries = _in_folder(path, classes, notes) if path.is_dir() else [Query(str(path))]
            for query in queries:
                found.setdefault(query.path, query)
    return list(found.values()), notes


def read_queries(
    queries: Sequence[Query], how: Preparation, on_broken: Callable[[DataError], None]
) -> Iterator[tuple[Query, Images]]:
    """Yield the pictures in order, uint8 (1, H, W, C); one that is none is left out and reported.

    DataError for what is no fault of a file.
    """
    paths = [[query.path] for query in queries]
    with strict_pillow():
        for place, block in decode_files(
            _Files(), paths, how.decoding, None, lambda _, error: on_broken(error)
        ):
            if len(block):
                yield queries[place], block


class _Files:
    """Files by their paths, for `decode_files`."""

    path = Path()

    def read(self, name: str) -> bytes:
        with readable(self.path, name):
            check_size(Path(name).stat().st_size, self.path, name)
            return Path(name).read_bytes()


def _matching(text: str) -> list[Path]:
    """Return the file or folder of that name, or else those that match it as a pattern."""
    path = Path(text)
    if path.is_file() or path.is_dir():
        return [path]
    if path.exists():
        raise DataError(f"{text} is neither a file nor a folder, but a device or pipe; pass images.")
    matching = [Path(name) for name in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207  (whole paths)
    there = [path for path in matching if path.is_file() or path.is_dir()]
    if not there:
        what = "and what matches it is neither (a broken link?)" if matching else "nor does anything match it"
        raise WrongUsage(f"There is no file or folder {text}, {what}; check the path.")
    return there


def _in_folder(folder: Path, classes: Sequence[str], notes: list[str]) -> list[Query]:
    with FolderTree(folder) as tree:
        names, passed_over = image_files(tree)
    notes += [f"{folder}: {note}" for note in passed_over]
    if not names:
        raise DataError(f"{folder} contains no images; pass files or folders of images.")
    queries = [Query(str(folder / name), _class_of(name, classes)) for name in names]
    unknown = [query for query in queries if query.truth is None]
    if unknown and len(unknown) < len(queries):
        notes.append(
            f"{folder}: images outside folders named after the support set's classes do not count towards "
            f"the accuracy ({len(unknown):,} of {len(queries):,} images, among them "
            f"{shortened(unknown[0].path)})."
        )
    return queries


def _class_of(name: str, classes: Sequence[str]) -> str | None:
    """Return the class that the folders of a file are called after; the longest name, if several are.

    Case matters only where classes differ in nothing else: many file systems ignore it.
    """
    folders = "/" + composed(str(PurePosixPath(name).parent))
    for alike in (str, str.casefold):
        fitting = [known for known in classes if alike(folders).endswith(alike(f"/{known}"))]
        if fitting:
            longest = max(map(len, fitting))
            meant = [known for known in fitting if len(known) == longest]
            return meant[0] if len(meant) == 1 else None
    return None

"""CSV files that say which image belongs to which class, and which classes to which split."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from data_prep.archives import Tree, where
from data_prep.archives.base import readable
from data_prep.errors import DataError, NoRoom, OfStranger, shortened
from data_prep.forms.class_folders import Files

# Lists of 60,000 images have 3 MB at most.
_HEADER_BYTES, _MAX_BYTES = 1_000, 8 << 20

VINYALS = "Vinyals et al."

# Header: the columns of file and class, and whose list has it.
_HEADERS: dict[tuple[str, ...], tuple[int, int, str]] = {
    ("filename", "label"): (0, 1, "Ravi and Larochelle's CSV files"),
    ("class_name", "image_name"): (1, 0, "CSV files over ImageNet"),
    ("filename", "class"): (0, 1, "Vinyals et al.'s CSV files"),
}


@dataclass(frozen=True)
class Listed:
    """Files of a tree by class, as lists say; `whose_split` names a split that is not the usual one."""

    kind: str
    files: Files
    splits: dict[str, list[str]]
    whose_split: str


@dataclass(frozen=True)
class _List:
    """One CSV file: the file names of each class."""

    name: str
    kind: str
    files: dict[str, list[str]]


def find_listed(tree: Tree, usual: Mapping[str, Sequence[str]]) -> Listed | None:
    """Find the lists of train, val and test, and the images they name; None if there are no lists.

    Lists of the usual classes are told by these, others by their files' names. DataError if a list is
    missing or names files that are not there.
    """
    lists, faults = _read_lists(tree)
    if not lists:
        for fault in faults.values():
            raise OfStranger(str(fault)) from fault
        return None
    found = {split: [own for own in lists if own.files.keys() == set(usual[split])] for split in usual}
    whose_split = ""
    if not all(found.values()):
        found = {split: [own for own in lists if _split_of(own.name) == split] for split in usual}
        vinyals = any(own.kind == _HEADERS["filename", "class"][2] for own in lists)
        whose_split = VINYALS if vinyals else "an unknown author"
    missing = [split for split, own in found.items() if len(own) != 1]
    if missing:
        for name, fault in faults.items():
            if _split_of(name) in missing:
                raise fault
        raise DataError(
            f"{tree.path} does not have exactly one CSV file of images for {' and '.join(missing)}; pass a "
            "folder with train.csv, val.csv, test.csv and the images."
        )
    chosen = {split: own[0] for split, own in found.items()}
    for own in chosen.values():
        if not own.files:
            raise DataError(f"{where(tree.path, own.name)} lists no images; get a fresh copy.")
    splits = {split: sorted(own.files) for split, own in chosen.items()}
    if len({name for names in splits.values() for name in names}) < sum(map(len, splits.values())):
        raise DataError(f"{tree.path} has CSV files that list one class in two splits; get fresh copies.")
    names = _index(tree)
    files = {
        label: _resolved(tree, own.name, label, listed, names)
        for own in chosen.values()
        for label, listed in own.files.items()
    }
    every = [name for own in files.values() for name in own]
    if len(set(every)) < len(every):
        raise DataError(f"{tree.path} has CSV files that list one image in two classes; get fresh copies.")
    return Listed(chosen["train"].kind, files, splits, whose_split)


def _read_lists(tree: Tree) -> tuple[list[_List], dict[str, DataError]]:
    """Return the CSV files that have a known header, and by name complaints about others, maybe strangers."""
    lists, faults = [], {}
    for name in tree.names():
        if not name.lower().endswith(".csv"):
            continue
        try:
            if _header(tree.head(name, _HEADER_BYTES)) in _HEADERS:
                lists.append(_read_list(tree, name))
        except NoRoom:
            raise
        except DataError as error:
            faults[name] = error
    return lists, faults


def _read_list(tree: Tree, name: str) -> _List:
    data = tree.read(name)
    if len(data) > _MAX_BYTES:
        raise DataError(
            f"{where(tree.path, name)} has {len(data):,} bytes, too many for a list of "
            "images; get a fresh copy."
        )
    with readable(tree.path, name):
        rows = _rows(data)
        header = _columns(next(rows))
        file_column, class_column, kind = _HEADERS[header]
        files: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            if len(row) != 2:
                raise DataError(
                    f"{where(tree.path, name)} has a row that does not have two columns; get a fresh copy."
                )
            files[row[class_column].strip()].append(row[file_column].strip())
    return _List(name, kind, files)


def _header(data: bytes) -> tuple[str, ...]:
    """Return the columns of the first row, () where there is none."""
    try:
        return _columns(next(_rows(data), []))
    except csv.Error:
        return ()


def _columns(row: list[str]) -> tuple[str, ...]:
    return tuple(column.strip().lower() for column in row)


def _rows(data: bytes) -> Iterator[list[str]]:
    """Yield the rows of a CSV file; empty ones, which Windows likes to put in between, are none."""
    for row in csv.reader(data.decode("utf-8-sig", "replace").splitlines()):
        if any(cell.strip() for cell in row):
            yield row


def _split_of(name: str) -> str | None:
    matched = re.search(r"train|val|test", name.rsplit("/", 1)[-1].lower())
    return matched.group() if matched else None


def _index(tree: Tree) -> dict[str, list[str]]:
    """Return the files of a tree by the last part of their names."""
    index: dict[str, list[str]] = defaultdict(list)
    for name in tree.names():
        index[name.rsplit("/", 1)[-1]].append(name)
    return index


def _resolved(
    tree: Tree, csv_name: str, label: str, listed: list[str], index: dict[str, list[str]]
) -> list[str]:
    """Return the files of one class, sorted by the names in the list."""
    files = []
    for name in sorted(listed):
        found = index.get(name.rsplit("/", 1)[-1], [])
        if len(found) > 1:
            found = [file for file in found if file.split("/")[-2:-1] == [label]]
        if len(found) != 1:
            fault = "occurs more than once" if found else "is missing"
            raise DataError(
                f"{tree.path}: the image {shortened(name)}, listed in {shortened(csv_name)}, {fault}; pass "
                "a folder with the CSV files and all images."
            )
        files += found
    if len(set(files)) < len(files):
        raise DataError(
            f"{tree.path}: {shortened(csv_name)} lists an image of {shortened(label)} "
            "twice; get a fresh copy."
        )
    return files

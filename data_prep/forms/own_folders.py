"""The folders of users' own images, with the same names whatever packed them."""

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from data_prep.archives import MountedTree, Tree, without_ending
from data_prep.errors import DataError, shortened

FolderParts = tuple[str, ...]


def composed(name: str) -> str:
    """Return a name as most systems write it: macOS has é as e and an accent, which is another text."""
    return unicodedata.normalize("NFC", name)


def by_folder(tree: Tree, names: Iterable[str]) -> dict[FolderParts, list[str]]:
    """Return files by the folder that they are in.

    In a folder of archives, an archive counts as a folder of its name, without the suffix, and folders around
    all its content do not matter. DataError if two folders have the same name, or an archive cannot be
    read.
    """
    found: dict[FolderParts, list[str]] = {}
    for name in names:
        found.setdefault(PurePosixPath(name).parent.parts, []).append(name)
    depths = _depths(tree, found) if isinstance(tree, MountedTree) else {}
    result: dict[FolderParts, list[str]] = {}
    for folder, files in found.items():
        called = folder
        if folder and folder[0] in depths:
            called = (without_ending(folder[0]), *folder[1 + depths[folder[0]] :])
        called = tuple(map(composed, called))
        if called in result:
            raise DataError(
                f"{tree.path} has two folders called {shortened('/'.join(called))!r}; rename one of them."
            )
        result[called] = files
    return result


def _depths(tree: MountedTree, folders: Iterable[FolderParts]) -> dict[str, int]:
    """Return for each archive how many folders there are around all that it holds."""
    for name, fault in tree.faults.items():
        if without_ending(name) != name:  # it was meant to be one, and its images would be missing
            raise fault
    inside: dict[str, list[FolderParts]] = {}
    for folder in folders:
        if folder and folder[0] in tree.archives:
            inside.setdefault(folder[0], []).append(folder[1:])
    # Whether a single folder is a class or encloses one is unknown, unless it has the archive's name.
    alone = {name: own == [(without_ending(name),)] for name, own in inside.items()}
    return {name: 1 if alone[name] else len(common_root(own)) for name, own in inside.items()}


def common_root(folders: Iterable[FolderParts]) -> FolderParts:
    """Return the folder below which all others lie; of a single one, its parent."""
    paths = list(folders)
    if len(paths) < 2:
        return paths[0][:-1] if paths else ()
    low, high = min(paths), max(paths)  # what these share, all between them do
    shared = 0
    while shared < min(len(low), len(high)) and low[shared] == high[shared]:
        shared += 1
    return low[:shared]

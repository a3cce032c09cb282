"""From a path to a view of what is there."""

from pathlib import Path
from typing import BinaryIO

from data_prep.archives.base import Tree, list_sha256, readable
from data_prep.archives.folder import FolderTree
from data_prep.archives.single import FileTree
from data_prep.archives.tars import TarTree, is_tar
from data_prep.archives.zips import ZipTree
from data_prep.errors import DataError, WrongUsage
from data_prep.machine import allow_open_files


class MountedTree(Tree):
    """A folder whose zip and tar archives are looked into as if they were folders of their own.

    Attributes: `archives`, their names; `faults`, complaints about those that cannot be read, by name: they
    may be strangers.
    """

    kind = "folder of archives"

    def __init__(self, folder: FolderTree) -> None:
        super().__init__(folder.path)
        self.unreadable, self.empty = [*folder.unreadable], folder.empty
        self._folder = folder
        self._archives: dict[str, Tree] = {}
        self._used: set[str] = set()
        self.faults: dict[str, DataError] = {}
        try:
            with readable(folder.path):
                entries = sorted(folder.path.iterdir())
            files = [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]
            allow_open_files(len(files))  # each archive is held open
            for file in files:
                self._mount(file)
        except BaseException:
            self.close()
            raise
        self.archives = frozenset(self._archives)

    def _list(self) -> list[str]:
        """Return ARCHIVE/NAME for the files in the archives, and the names of the folder's other files."""
        inside = [f"{mount}/{name}" for mount, tree in self._archives.items() for name in tree.names()]
        return sorted([name for name in self._folder.names() if name not in self._archives] + inside)

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        tree, rest = self._find(name)
        return tree.read(rest)

    def open(self, name: str) -> BinaryIO:
        """Open a file of the folder or of an archive."""
        tree, rest = self._find(name)
        return tree.open(rest)

    def head(self, name: str, size: int) -> bytes:
        """Return the first bytes of a file."""
        mount, _, rest = name.partition("/")
        tree = self._archives.get(mount)
        return tree.head(rest, size) if tree and rest else self._folder.head(name, size)

    def sha256(self) -> str:
        """Return the checksum of the list of the archives and other files that were used."""
        archives = {mount: self._archives[mount].sha256() for mount in self._used}
        return list_sha256(self._folder.digests() | archives)

    def close(self) -> None:
        """Close the archives, and what was opened in the folder."""
        super().close()
        for tree in (self._folder, *self._archives.values()):
            tree.close()

    def _mount(self, path: Path) -> None:
        try:
            tree = _open_archive(path)
        except DataError as error:  # NoRoom, too: what needs unpacking to be listed may be a stranger
            self.faults[path.name] = error
        else:
            if tree is not None:
                self._archives[path.name] = tree
                self.unreadable += tree.unreadable

    def _find(self, name: str) -> tuple[Tree, str]:
        """Return the tree that has a file, and the file's name there."""
        mount, _, rest = name.partition("/")
        if mount not in self._archives or not rest:
            return self._folder, name
        self._used.add(mount)
        return self._archives[mount], rest


def open_tree(path: Path) -> Tree:
    """Open a folder, a zip, a tar or a tar.gz, told apart by content; any other file is a tree of its own.

    DataError if there is nothing, or nothing that can be read twice.
    """
    with readable(path):  # what is there may not be ours to read
        there, folder, file = path.exists(), path.is_dir(), path.is_file()
    if not there:
        raise WrongUsage(f"There is no file or folder {path}; check the path.")
    if folder:
        return FolderTree(path)
    if not file:
        raise DataError(f"{path} is neither a file nor a folder, but a device or pipe; pass a file.")
    return _open_archive(path) or FileTree(path)


def _open_archive(path: Path) -> Tree | None:
    """Open an archive; None for any other file, including NumPy's, though they are zips."""
    with readable(path), path.open("rb") as file:
        head = file.read(512)
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        tree = ZipTree(path)
        names = tree.names()
        if not names or not all(name.endswith(".npy") for name in names):
            return tree
        tree.close()
    elif is_tar(path, head):
        return TarTree(path)
    return None

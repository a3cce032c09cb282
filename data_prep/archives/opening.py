"""From a path to the view of what is there."""

from pathlib import Path

from data_prep.archives.base import Tree, list_sha256, readable
from data_prep.archives.folder import FolderTree
from data_prep.archives.packed import TarTree, ZipTree
from data_prep.errors import DataError


class MountedTree(Tree):
    """A folder whose zip and tar archives are looked into as if they were folders of their own."""

    kind = "folder of archives"

    def __init__(self, folder: FolderTree) -> None:
        super().__init__(folder.path)
        self._folder = folder
        self._archives: dict[str, Tree] = {}
        self._used: set[str] = set()
        try:
            for entry in sorted(folder.path.iterdir()):
                if entry.is_file() and not entry.name.startswith(".") and is_archive(entry):
                    self._archives[entry.name] = open_tree(entry)
        except BaseException:
            self.close()
            raise

    def names(self) -> list[str]:
        """Return the names of the folder's files, and ARCHIVE/NAME for those in its archives."""
        inside = [f"{mount}/{name}" for mount, tree in self._archives.items() for name in tree.names()]
        return sorted([*self._folder.names(), *inside])

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        mount, _, rest = name.partition("/")
        if mount not in self._archives:
            return self._folder.read(name)
        self._used.add(mount)
        return self._archives[mount].read(rest)

    def sha256(self) -> str:
        """Return the checksum of the list of the archives that were used."""
        return list_sha256({mount: self._archives[mount].sha256() for mount in self._used})

    def close(self) -> None:
        """Close the archives."""
        for tree in self._archives.values():
            tree.close()


def open_tree(path: Path) -> Tree:
    """Open a folder, a zip, a tar or a tar.gz, told apart by content; DataError where it is none of them."""
    if not path.exists():
        raise DataError(f"There is no file or folder {path}; check the path.")
    if path.is_dir():
        return FolderTree(path)
    with readable(path), path.open("rb") as file:
        magic = file.read(4)
    if magic in (b"PK\3\4", b"PK\5\6"):
        return ZipTree(path)
    if is_archive(path):
        return TarTree(path)
    raise DataError(f"{path} is neither a folder nor a zip, tar or tar.gz archive; pass one of these.")


def is_archive(path: Path) -> bool:
    """Whether a file starts as a zip, a gzip or a tar does."""
    with readable(path), path.open("rb") as file:
        head = file.read(512)
    return head.startswith((b"PK\3\4", b"PK\5\6", b"\x1f\x8b")) or head[257:262] == b"ustar"

"""A file on its own."""

from pathlib import Path
from typing import BinaryIO

from data_prep.archives.base import Tree, check_size, readable


class FileTree(Tree):
    """One file that is no archive: `names` has its name alone."""

    kind = "file"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._name = path.name

    def _list(self) -> list[str]:
        return [self._name]

    def read(self, name: str) -> bytes:
        """Return the file's bytes."""
        with readable(self.path):
            check_size(self.path.stat().st_size, self.path, name)
            return self.path.read_bytes()

    def open(self, name: str) -> BinaryIO:
        """Open the file."""
        with readable(self.path):
            file = self.path.open("rb")
        self.keep(file)
        return file

    def head(self, name: str, size: int) -> bytes:
        """Return the first bytes of the file."""
        with readable(self.path), self.path.open("rb") as file:
            return file.read(size)

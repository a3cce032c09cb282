"""Folders on disk."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from data_prep.archives.base import (
    Tree,
    check_size,
    complaint,
    file_sha256,
    is_hidden,
    list_sha256,
    readable,
    visible,
)
from data_prep.errors import DataError

# Ten times ImageNet. Folders that link to each other can have any number of paths.
_MAX_ENTRIES = 14_000_000


class FolderTree(Tree):
    """A folder on disk; links are followed, since people link datasets together."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._read: dict[str, str | None] = {}  # None: not hashed yet

    def _list(self) -> list[str]:
        found: list[str] = []
        entries = 0
        pending: list[tuple[str, tuple[str, ...]]] = [("", ())]
        while pending:
            prefix, above = pending.pop()
            real = os.path.realpath(self.path / prefix)
            if real in above:  # links can form a loop
                continue
            try:
                with readable(self.path / prefix):
                    here = list(os.scandir(real))
            except DataError as error:  # unrelated, such as lost+found; the folder itself is not
                if not prefix:
                    raise
                self.unreadable.append(error)
                continue
            for entry in here:
                try:
                    is_folder, is_file = entry.is_dir(), entry.is_file()
                except OSError as error:  # such as a link to itself
                    self.unreadable.append(complaint(error, self.path / prefix / entry.name))
                    continue
                if is_folder and not is_hidden(f"{entry.name}/"):
                    pending.append((f"{prefix}{entry.name}/", (*above, real)))
                elif is_file:
                    found.append(prefix + entry.name)
            if prefix and not here:
                self.empty.append(prefix.rstrip("/"))
            entries += len(here)
            if entries > _MAX_ENTRIES:
                raise DataError(
                    f"{self.path} has more than {_MAX_ENTRIES:,} files; remove links that form a loop."
                )
        return visible(found)

    def read(self, name: str) -> bytes:
        """Return a file's bytes, and remember their checksum."""
        with readable(self.path / name):
            path = self.path / name
            check_size(path.stat().st_size, self.path, name)
            data = path.read_bytes()
        self._read[name] = hashlib.sha256(data).hexdigest()
        return data

    def open(self, name: str) -> BinaryIO:
        """Open a file; its checksum is taken when it is asked for."""
        with readable(self.path / name):
            file = (self.path / name).open("rb")
        self._opened.append(file)
        self._read.setdefault(name)
        return file

    def head(self, name: str, size: int) -> bytes:
        """Return the first bytes of a file."""
        with readable(self.path / name), (self.path / name).open("rb") as file:
            return file.read(size)

    def sha256(self) -> str:
        """Return the checksum of the list of files read so far."""
        return list_sha256(self.digests())

    def digests(self) -> dict[str, str]:
        """Return the checksums of the files read so far."""
        return {name: digest or file_sha256(self.path / name) for name, digest in self._read.items()}

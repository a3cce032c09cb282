"""Folders on disk."""

import hashlib
import os
from pathlib import Path

from data_prep.archives.base import Tree, check_size, list_sha256, readable, visible


class FolderTree(Tree):
    """A folder on disk; links are followed, since people link datasets together."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._read: dict[str, str] = {}

    def names(self) -> list[str]:
        """Return the names of all regular files below the folder."""
        found: list[str] = []
        pending, seen = [""], set[str]()
        while pending:
            prefix = pending.pop()
            with readable(self.path / prefix):
                real = os.path.realpath(self.path / prefix)
                if real in seen:  # links can make a circle
                    continue
                seen.add(real)
                for entry in os.scandir(real):
                    if entry.is_dir():
                        pending.append(f"{prefix}{entry.name}/")
                    elif entry.is_file():
                        found.append(prefix + entry.name)
        return visible(found)

    def read(self, name: str) -> bytes:
        """Return a file's bytes, and remember their checksum."""
        with readable(self.path / name):
            path = self.path / name
            check_size(path.stat().st_size, self.path, name)
            data = path.read_bytes()
        self._read[name] = hashlib.sha256(data).hexdigest()
        return data

    def sha256(self) -> str:
        """Return the checksum of the list of files read so far."""
        return list_sha256(self._read)

"""Zip and tar archives."""

import gzip
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import IO

from data_prep.archives.base import (
    MAX_MEMBER_BYTES,
    Tree,
    check_names,
    check_size,
    file_sha256,
    readable,
    visible,
)
from data_prep.errors import DataError

# Images hardly shrink under gzip; its format allows a thousandfold, which only bombs come near.
_MAX_RATIO = 100


class ZipTree(Tree):
    """A zip archive."""

    kind = "zip"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with readable(path):
            self._zip = zipfile.ZipFile(path)
        try:
            check_names(path, self._zip.namelist())
        except BaseException:
            self._zip.close()
            raise

    def names(self) -> list[str]:
        """Return the names of all files in the archive."""
        return visible({name for name in self._zip.namelist() if not name.endswith("/")})

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""
        with readable(self.path, name):
            check_size(self._zip.getinfo(name).file_size, self.path, name)
            return self._zip.read(name)  # never more than the declared size, and its CRC is checked

    def sha256(self) -> str:
        """Return the checksum of the archive."""
        return file_sha256(self.path)

    def close(self) -> None:
        """Close the archive."""
        self._zip.close()


class TarTree(Tree):
    """A tar archive, plain or under gzip."""

    kind = "tar"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with readable(path):
            self._file = _ungzipped(path)
            try:
                self._tar = tarfile.TarFile(fileobj=self._file)
                self._members = {member.name: member for member in self._tar if member.isreg()}
                check_names(path, self._members)
            except BaseException:
                self._file.close()
                raise

    def names(self) -> list[str]:
        """Return the names of all regular files in the archive."""
        return visible(self._members)

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""
        with readable(self.path, name):
            member = self._members[name]
            check_size(member.size, self.path, name)
            file = self._tar.extractfile(member)
            data = file.read() if file else b""
            if len(data) != member.size:
                raise EOFError("it is cut short")
            return data

    def sha256(self) -> str:
        """Return the checksum of the archive."""
        return file_sha256(self.path)

    def close(self) -> None:
        """Close the archive."""
        self._tar.close()
        self._file.close()


def _ungzipped(path: Path) -> IO[bytes]:
    """Open a file for reading at any place; gzip is first undone into a temporary file without a name."""
    file = path.open("rb")
    if file.read(2) != b"\x1f\x8b":
        file.seek(0)
        return file
    with file:
        file.seek(0)
        limit = _MAX_RATIO * path.stat().st_size + MAX_MEMBER_BYTES
        plain = tempfile.TemporaryFile()  # noqa: SIM115  closed by the tree that reads it
        try:
            with gzip.open(file) as packed:
                while block := packed.read(1 << 20):
                    plain.write(block)
                    if plain.tell() > limit:
                        raise DataError(
                            f"{path} unpacks to over {_MAX_RATIO} times its size; it is not what it says."
                        )
        except BaseException:
            plain.close()
            raise
    plain.seek(0)
    return plain

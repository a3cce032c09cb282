"""Tar archives, plain or under gzip."""

import gzip
import re
import tarfile
from pathlib import Path
from typing import BinaryIO, Self, cast

from data_prep.archives.base import (
    Tree,
    check_names,
    check_size,
    normalized,
    readable,
    visible,
    where,
)
from data_prep.archives.unpacking import Unpacked
from data_prep.archives.window import window
from data_prep.errors import DataError

_GZIP = b"\x1f\x8b"

# Headers that hold names and attributes of the next one, or of all. Real ones have some hundreds of bytes.
_RECORDS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG = (*_RECORDS, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_MAX_LONG_BYTES = 1 << 16

# tieredImageNet has 780,000; their names and places are held in memory.
_MOST_MEMBERS = 2_000_000

_MOST_GLOBAL = 1000

_Place = tuple[int, int]
"""Start and size of a file in the archive."""


class TarTree(Tree):
    """A tar archive, plain or under gzip."""

    kind = "tar"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with readable(path):
                self._file = self._opened_plain()
                self._members, ended = _scan(path, self._file)
            if not ended:  # as some programs leave it
                self.unreadable.append(DataError(f"{path} has no mark of its end: it may be cut short."))
        except BaseException:
            self.close()
            raise

    def _list(self) -> list[str]:
        return visible(self._members)

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""
        start, size = self._place(name)
        check_size(size, self.path, name)
        with readable(self.path, name):
            self._file.seek(start)
            data = self._file.read(size)
            if len(data) < size:
                raise EOFError("it is cut short")
            return data

    def open(self, name: str) -> BinaryIO:
        """Open a member in place."""
        return window(self._file, *self._place(name))

    def head(self, name: str, size: int) -> bytes:
        """Return the first bytes of a member."""
        with readable(self.path, name):
            return self.open(name).read(size)

    def _opened_plain(self) -> BinaryIO:
        """Open the archive for reading at any place; gzip is undone first."""
        file = self.path.open("rb")
        self.keep(file)
        gzipped = file.read(2) == _GZIP
        size = file.seek(0, 2)
        file.seek(0)
        if not gzipped:
            return file
        unpacked = Unpacked(size)
        self.keep(unpacked)
        with gzip.open(file) as packed:
            return unpacked.add(cast(BinaryIO, packed), f"{self.path}")

    def _place(self, name: str) -> _Place:
        place = self._members[name]
        if place is None:
            raise DataError(
                f"{where(self.path, name)} is stored as a sparse file; create the "
                "archive again without --sparse."
            )
        return place


def is_tar(path: Path, head: bytes) -> bool:
    """Whether a file is a tar archive, plain or under gzip, by its first 512 bytes."""
    with readable(path):
        if head.startswith(_GZIP):
            with gzip.open(path) as packed:
                head = packed.read(tarfile.BLOCKSIZE)
        try:  # the checksum tells: the oldest archives have no mark
            tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return head[257:262] == b"ustar"
        return True


class _Header(tarfile.TarInfo):
    """A header that is checked before what belongs to it is read.

    tarfile itself believes any size, and takes a damaged header for the end of the archive; in older Pythons
    it loops on negative sizes (CVE-2025-8194), and is very slow on odd records (CVE-2024-6232).
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header; ReadError if it is damaged or has an impossible size."""
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not any(buf):  # the end
                raise
            raise tarfile.ReadError(f"it has a damaged header: {error}") from error
        if header.size < 0 or (header.type in _LONG and header.size > _MAX_LONG_BYTES):
            raise tarfile.ReadError("it has a header with an impossible size")
        return header

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        """Read the next header, with the records that describe its member."""
        file = archive.fileobj
        assert file is not None
        start = file.tell()
        block = file.read(tarfile.BLOCKSIZE)
        if block[156:157] in _RECORDS:
            _check_records(file.read(cls.frombuf(block, "utf-8", "surrogateescape").size))
        if len(archive.pax_headers) > _MOST_GLOBAL:  # which are gone through for each member
            raise tarfile.ReadError(f"it has more than {_MOST_GLOBAL} records for all members")
        file.seek(start)
        return super().fromtarfile(archive)


def _check_records(records: bytes) -> None:
    """Check that records are lines of LENGTH KEY=VALUE, and that no number in them is endless."""
    at = 0
    while at < len(records):
        matched = re.compile(rb"([1-9][0-9]{0,5}) ").match(records, at)
        end = at + int(matched.group(1)) if matched else 0
        if not matched or records[end - 1 : end] != b"\n" or b"=" not in records[matched.end() : end]:
            raise tarfile.ReadError("it has a header with malformed records")
        at = end
    if re.search(rb"[0-9]{100}", records):
        raise tarfile.ReadError("it has a header with a number of 100 digits or more")


def _scan(path: Path, file: BinaryIO) -> tuple[dict[str, _Place | None], bool]:
    """Return where each regular file of an archive is, None for one in pieces, and if its end is marked.

    Hard links are what they link to, if that came before them, as it does where programs have written them.
    """
    size = file.seek(0, 2)
    file.seek(0)
    members: dict[str, _Place | None] = {}
    with tarfile.TarFile(fileobj=file, tarinfo=_Header) as archive:
        for count, member in enumerate(archive):
            if count == _MOST_MEMBERS:
                raise tarfile.ReadError(f"it has more than {_MOST_MEMBERS:,} members")
            archive.members = []  # type: ignore[attr-defined]  # tarfile keeps all that it has seen
            check_names(path, [member.name])
            name = normalized(member.name)
            whole = member.isreg() and not member.issparse()
            # Records can change the size that was checked before.
            if member.size < 0 or (whole and member.offset_data + member.size > size):
                raise tarfile.ReadError("it has a member of an impossible size")
            if member.isreg():
                members[name] = (member.offset_data, member.size) if whole else None
            elif member.islnk() and (target := normalized(member.linkname)) in members:
                members[name] = members[target]
        file.seek(archive.offset)
        return members, len(file.read(tarfile.BLOCKSIZE)) == tarfile.BLOCKSIZE

"""Decompress into a temporary file, within a budget."""

import tempfile
from typing import IO, BinaryIO, cast

from data_prep.archives.base import MAX_MEMBER_BYTES
from data_prep.archives.window import window
from data_prep.errors import DataError

# Images hardly shrink under gzip; its format allows a thousandfold, which only bombs come near.
_MAX_RATIO = 100


class Unpacked:
    """A temporary file without a name, to which compressed files of one archive are unpacked.

    All of them together may have a hundred times the size of the archive, and a little more.
    """

    def __init__(self, packed_size: int) -> None:
        self._limit = _MAX_RATIO * packed_size + MAX_MEMBER_BYTES
        self._file: BinaryIO | None = None

    def add(self, packed: IO[bytes], where: str) -> BinaryIO:
        """Unpack a file after those already there, and open it for reading at any position.

        DataError names `where` if it is too large.
        """
        if self._file is None:
            self._file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  closed by `close`
        start = end = self._file.seek(0, 2)
        while block := packed.read(1 << 20):
            end += len(block)
            if end > self._limit:
                raise DataError(f"{where} unpacks to more than {_MAX_RATIO} times its size; do not trust it.")
            self._file.write(block)
        return window(self._file, start, end - start)

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()

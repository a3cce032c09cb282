"""Arrays that stay in their file: rows are read when they are asked for, so that memory does not grow."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from data_prep.archives import Tree, where
from data_prep.archives.base import readable
from data_prep.errors import DataError

# Above any list of labels, and above any array of images that has to be read whole because its first index
# runs fastest.
_MAX_WHOLE = 1 << 30

_MAX_NPY_HEADER = 10_000


@dataclass(frozen=True)
class OpenFile:
    """A file that is read at any place; what goes wrong is said with `path` and `name`."""

    file: BinaryIO
    path: Path
    name: str

    @classmethod
    def of(cls, tree: Tree, name: str) -> "OpenFile":
        """Open a file of a tree."""
        return cls(tree.open(name), tree.path, name)

    @property
    def where(self) -> str:
        """Name of the file, for people."""
        return where(self.path, self.name)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill a buffer with the bytes from `start` on; DataError if the file has fewer."""
        with readable(self.path, self.name):
            self.file.seek(start)
            done = 0
            while done < len(buffer):
                # BinaryIO does not say so, but all files opened for reading in binary have it.
                count: int = self.file.readinto(buffer[done:])  # type: ignore[attr-defined]
                if not count:
                    raise EOFError("it is cut short")
                done += count

    def read(self, start: int, size: int) -> bytearray:
        """Return `size` bytes from `start` on."""
        data = bytearray(size)
        self.read_into(start, memoryview(data))
        return data


@dataclass(slots=True)
class StoredArray:
    """An array in a file, of the type `dtype`, the first byte at `start`.

    It lies there in C order with the shape `stored`; its own axes are the stored ones of the numbers `axes`.
    """

    source: OpenFile
    start: int
    dtype: np.dtype[Any]
    stored: tuple[int, ...]
    axes: tuple[int, ...]
    _whole: NDArray[Any] | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self.stored[axis] for axis in self.axes)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return prod(self.stored) * self.dtype.itemsize

    def rows(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of these indices, (n, *shape[1:]), reading nothing else.

        DataError if the file ends early; IndexError if there is no such row.
        """
        if self.axes[:1] != (0,):
            chosen: NDArray[Any] = self.load()[indices]
            return chosen
        wanted = np.asarray(indices, np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < self.stored[0]:
            raise IndexError(f"{self.source.where} has {self.stored[0]} rows")
        result = np.empty((len(wanted), *self.stored[1:]), self.dtype)
        row_bytes = prod(self.stored[1:]) * self.dtype.itemsize
        flat = result.reshape(-1).view(np.uint8).data
        # Neighbours in the file are read at once.
        breaks = [0, *(np.flatnonzero(np.diff(wanted) != 1) + 1).tolist(), len(wanted)]
        for first, end in pairwise(breaks):
            if end > first and row_bytes:
                place = self.start + int(wanted[first]) * row_bytes
                self.source.read_into(place, flat[first * row_bytes : end * row_bytes])
        return result.transpose(self.axes)

    def load(self) -> NDArray[Any]:
        """Return the whole array; DataError if it is too large for that."""
        if self._whole is None:
            if self.nbytes > _MAX_WHOLE:
                raise DataError(
                    f"{self.source.where} has an array of {self.nbytes:,} bytes that must be read whole; "
                    "write it again in C order."
                )
            data = np.frombuffer(self.source.read(self.start, self.nbytes), self.dtype)
            self._whole = data.reshape(self.stored).transpose(self.axes)
        return self._whole

    def tobytes(self) -> bytes:
        """Return the bytes as they are in the file."""
        return bytes(self.source.read(self.start, self.nbytes))


@cache
def _in_order(dimensions: int) -> tuple[int, ...]:
    """Return the numbers of so many axes: one object for hundreds of thousands of arrays."""
    return tuple(range(dimensions))


def laid_out(shape: Sequence[int], fortran: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return `stored` and `axes` of an array of a shape; `fortran`: its first index runs fastest."""
    axes = _in_order(len(shape))
    return (tuple(shape[::-1]), axes[::-1]) if fortran else (tuple(shape), axes)


def open_npy(source: OpenFile) -> StoredArray:
    """Read the header of a .npy file; DataError if it is none, or one of Python objects."""
    file = source.file
    with readable(source.path, source.name):  # NumPy evaluates the header as a literal
        file.seek(0)
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(file, max_header_size=_MAX_NPY_HEADER)
        start = file.tell()
        size = file.seek(0, 2) - start
    array = StoredArray(source, start, dtype, *laid_out(shape, fortran))
    if dtype.hasobject or array.nbytes != size:
        raise DataError(f"{source.where} is not a complete array of {shape} {dtype}; get a fresh copy.")
    return array

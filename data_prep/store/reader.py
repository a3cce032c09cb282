"""Read an episode store."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError, first_line
from data_prep.store import parts
from data_prep.store.episodes import check_episodes
from data_prep.store.format import (
    FORMAT,
    QUERY,
    SPLITS,
    TASKS,
    VERSION,
    Images,
    StoreSummary,
    episodes_key,
    split_counts,
)

# A read of this many bytes is large enough for full speed and short enough for progress and Ctrl-C.
_READ_BYTES = 32 << 20

_MAX_CLASSES = 1_000_000

_TEXTS = ("dataset", "form", "source_sha256", "tool_version", "citation", "terms", "sha256")
_LATER_TEXTS = ("fit", "inverted")  # which stores of earlier versions lack


class Split:
    """One split of an open store.

    Attributes: `name`; `images`, the h5py dataset uint8 (N, H, W, C), sorted by class; `class_offsets` int64
    (classes + 1): class k has the images from class_offsets[k] to class_offsets[k + 1]; `class_names`;
    `sha256`, the checksum of the image bytes that was recorded when the store was written.
    """

    def __init__(self, file: h5py.File, name: str) -> None:
        self.name = name
        self._file = file
        group = parts.subgroup(file, name)
        if group is None:
            raise parts.fault(file, f"{name} is missing")
        self.images: Any = _checked_images(group)
        self.class_offsets: NDArray[np.int64] = _checked_offsets(group, self.images.shape[0])
        self.class_names: list[str] = parts.names(group, "class_names")
        self.sha256 = parts.text(group, "images_sha256")

    def blocks(self) -> Iterator[Images]:
        """Yield the images in order, in blocks of whole chunks: uint8 (n, H, W, C).

        Raises DataError after the last block if they do not match their checksum: HDF5 silently reads as
        zeros what is missing from a file that was cut short while open.
        """
        chunk = self.images.chunks[0] if self.images.chunks else 1
        image_bytes = int(np.prod(self.images.shape[1:]))
        step = max(_READ_BYTES // (chunk * image_bytes), 1) * chunk
        digest = hashlib.sha256()
        for first in range(0, self.images.shape[0], step):
            with _readable(self._file.filename):
                block = self.images[first : first + step]
            digest.update(block.data)
            yield block
        if digest.hexdigest() != self.sha256:
            raise DataError(
                f"{self._file.filename}: the images of {self.name} do not match their checksum; "
                "prepare it again with --force."
            )

    def read(self) -> Images:
        """Return all images of the split, uint8 (N, H, W, C)."""
        images = np.empty(self.images.shape, np.uint8)
        done = 0
        for block in self.blocks():
            images[done : done + len(block)] = block
            done += len(block)
        return images

    def episodes(self, way: int, shot: int) -> NDArray[np.int32] | None:
        """Return the frozen tasks, int32 (600, way, shot + 15), support columns first; None if not there.

        Raises DataError if they are not well formed.
        """
        key = episodes_key(way, shot)
        with _readable(self._file.filename):
            group = parts.subgroup(self._file, "episodes")
            group = group and parts.subgroup(group, self.name)
            if group is None:
                return None
            found = parts.integers(group, key, np.int32, (TASKS, way, shot + QUERY))
            if found is None:
                return None
            tasks = np.asarray(found[()])
        where = f"{self._file.filename}: episodes/{self.name}/{key}"
        check_episodes(tasks, self.class_offsets, way, shot, where)
        return tasks


class Store:
    """An open episode store; a context manager.

    Attributes: `path`, `dataset`, `form`, `image_size`, `channels`; `mean` and `std` float64 (C,), of the
    train split's pixels / 255; `sha256`, the checksum of the content, which does not depend on the form the
    images came in; `attributes`, the text attributes by name.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.path = path
        self._file = file
        for key in _TEXTS:
            if key not in file.attrs:
                raise DataError(f"{path} lacks the attribute {key!r}; prepare it again with --force.")
        found = [*_TEXTS, *(key for key in _LATER_TEXTS if key in file.attrs)]
        self.attributes = {key: parts.text(file, key) for key in found}
        self.dataset = self.attributes["dataset"]
        self.form = self.attributes["form"]
        self.sha256 = self.attributes["sha256"]
        self.mean = parts.numbers(file, "mean")
        self.std = parts.numbers(file, "std")
        self._splits = {name: Split(file, name) for name in SPLITS}
        _, self.image_size, _, self.channels = self._splits["train"].images.shape
        self._check_agreement()

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a store after a check of version, structure and sizes, but not of the checksums.

        Raises DataError, one sentence, for a file that is missing, not HDF5, cut short, of another version,
        or that lacks a part or has one of the wrong type, shape or size.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"There is no episode store {path}; make it with `pamela prepare`.")
        with _readable(path):
            # Stores are read-only once written, and locks fail on many network file systems.
            file = h5py.File(path, "r", locking=False)
            try:
                _check_version(file, path)
                return cls(file, path)
            except BaseException:
                file.close()
                raise

    def splits(self) -> list[str]:
        """Names of the splits: train, val and test."""
        return list(self._splits)

    def split(self, name: str) -> Split:
        """Return one split; DataError for an unknown name."""
        if name not in self._splits:
            raise DataError(f"{self.path} has no split {name!r}; its splits are {', '.join(self._splits)}.")
        return self._splits[name]

    def summary(self) -> StoreSummary:
        """Return what the store holds."""
        counts = split_counts({name: split.class_offsets for name, split in self._splits.items()})
        return StoreSummary(self.path, self.dataset, self.form, self.image_size, counts, self.sha256)

    def close(self) -> None:
        """Close the file; the splits cannot be read any more."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_agreement(self) -> None:
        shape = (self.image_size, self.image_size, self.channels)
        for split in self._splits.values():
            if split.images.shape[1:] != shape:
                raise DataError(
                    f"{self.path}: the images of {split.name} have shape {split.images.shape[1:]}, but "
                    f"those of train {shape}; prepare it again with --force."
                )
        if not self.mean.shape == self.std.shape == (self.channels,):
            raise DataError(
                f"{self.path}: mean and std do not have {self.channels} numbers; "
                "prepare it again with --force."
            )


@contextmanager
def _readable(path: Path | str) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into one sentence."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # MemoryError, too
        if isinstance(error, PermissionError):
            raise DataError(f"{path} cannot be read: permission denied; check its access rights.") from error
        if "truncated" in str(error):
            raise DataError(f"{path} is cut short; prepare it again with --force.") from error
        if "signature not found" in str(error):
            raise DataError(f"{path} is not an HDF5 file; make a store with `pamela prepare`.") from error
        raise DataError(f"{path} is damaged ({first_line(error)}); prepare it again with --force.") from error


def _check_version(file: h5py.File, path: Path) -> None:
    if "format" not in file.attrs or parts.text(file, "format") != FORMAT:
        raise DataError(f"{path} is an HDF5 file but not an episode store; make one with `pamela prepare`.")
    version = file.attrs["format_version"] if file.attrs.get_id("format_version").shape == () else None
    if version != VERSION:
        raise DataError(
            f"{path} is an episode store of version {version}, but this program reads version {VERSION}; "
            "prepare it again with --force."
        )


def _checked_images(group: h5py.Group) -> Any:
    """Return the images of a split, once their type and shape are those of a store."""
    where = parts.path_of(group, "images")
    images = parts.dataset(group, "images")
    if images is None:
        raise parts.fault(group, f"{where} is missing")
    if images.dtype != np.uint8:
        raise parts.fault(group, f"{where} is {images.dtype}, not uint8")
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] not in (1, 3):
        raise parts.fault(group, f"{where} has shape {images.shape}, not (N, size, size, 1 or 3)")
    if images.shape[0] == 0 or images.shape[1] == 0:
        raise parts.fault(group, f"{where} is empty")
    return images


def _checked_offsets(group: h5py.Group, images: int) -> NDArray[np.int64]:
    """Return the class offsets of a split, once they fit its images and names."""
    where = parts.path_of(group, "class_offsets")
    offsets = parts.integers(group, "class_offsets", np.int64, None)
    names = parts.dataset(group, "class_names")
    for name, found in (("class_offsets", offsets), ("class_names", names)):
        if found is None:
            raise parts.fault(group, f"{parts.path_of(group, name)} is missing")
    if offsets.ndim != 1 or not 2 <= offsets.shape[0] <= _MAX_CLASSES:
        raise parts.fault(group, f"{where} has shape {offsets.shape}, not (classes + 1)")
    if names.shape != (offsets.shape[0] - 1,):
        raise parts.fault(
            group, f"{group.name[1:]}/class_names has shape {names.shape}, not ({offsets.shape[0] - 1},)"
        )
    values: NDArray[np.int64] = offsets[()]
    if values[0] != 0 or values[-1] != images or (np.diff(values) <= 0).any():
        raise parts.fault(group, f"{where} does not fit its images")
    return values

"""Read an episode store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError
from data_prep.store.format import FORMAT, SPLITS, VERSION, Images, StoreSummary, episodes_key, split_counts

# A read of this many bytes is large enough for full speed and short enough for progress and Ctrl-C.
_READ_BYTES = 32 << 20

_TEXTS = ("dataset", "form", "source_sha256", "tool_version", "citation", "terms", "sha256")


class Split:
    """One split of an open store.

    Attributes: `name`; `images`, the h5py dataset uint8 (N, H, W, C), sorted by class; `class_offsets` int64
    (classes + 1): class k has the images from class_offsets[k] to class_offsets[k + 1]; `class_names`;
    `sha256`, the checksum of the image bytes that was recorded when the store was written.
    """

    def __init__(self, file: h5py.File, name: str) -> None:
        self.name = name
        self._file = file
        group = file[name]
        self.images: Any = group["images"]
        self.class_offsets: NDArray[np.int64] = group["class_offsets"][()]
        self.class_names: list[str] = [str(text) for text in group["class_names"].asstr()[()]]
        self.sha256 = str(group.attrs["images_sha256"])

    def blocks(self) -> Iterator[Images]:
        """Yield the images in order, in blocks of whole chunks: uint8 (n, H, W, C)."""
        chunk = self.images.chunks[0] if self.images.chunks else 1
        image_bytes = int(np.prod(self.images.shape[1:]))
        step = max(_READ_BYTES // (chunk * image_bytes), 1) * chunk
        for first in range(0, self.images.shape[0], step):
            with _readable(self._file.filename):
                block = self.images[first : first + step]
            yield block

    def read(self) -> Images:
        """Return all images of the split, uint8 (N, H, W, C)."""
        images = np.empty(self.images.shape, np.uint8)
        done = 0
        for block in self.blocks():
            images[done : done + len(block)] = block
            done += len(block)
        return images

    def episodes(self, way: int, shot: int) -> NDArray[np.int32] | None:
        """Return the frozen tasks, int32 (600, way, shot + 15), support columns first; None if not there."""
        with _readable(self._file.filename):
            tasks = self._file.get(f"episodes/{self.name}/{episodes_key(way, shot)}")
            return None if tasks is None else np.asarray(tasks[()], np.int32)


class Store:
    """An open episode store; a context manager.

    Attributes: `path`, `dataset`, `form`, `image_size`, `channels`; `mean` and `std` float64 (C,), of the
    train split's pixels / 255; `sha256`, the checksum of the content, which does not depend on the form the
    images came in; `attributes`, all text attributes by name.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.path = path
        self._file = file
        self.attributes = {key: value for key, value in file.attrs.items() if isinstance(value, str)}
        for key in _TEXTS:
            if key not in self.attributes:
                raise DataError(f"{path} lacks the attribute {key!r}; prepare it again with --force.")
        self.dataset = self.attributes["dataset"]
        self.form = self.attributes["form"]
        self.sha256 = self.attributes["sha256"]
        self.mean: NDArray[np.float64] = np.asarray(file.attrs["mean"], np.float64)
        self.std: NDArray[np.float64] = np.asarray(file.attrs["std"], np.float64)
        for name in SPLITS:
            _check_split(file, name, path)
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
        """Return one split; DataError for a name that is none."""
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
                    f"{self.path}: images of {split.name} are {split.images.shape[1:]}, "
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
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        if isinstance(error, PermissionError):
            raise DataError(f"{path} cannot be read: permission denied; check its access rights.") from error
        if "truncated" in str(error):
            raise DataError(f"{path} is cut short; prepare it again with --force.") from error
        if "signature not found" in str(error):
            raise DataError(f"{path} is not an HDF5 file; make a store with `pamela prepare`.") from error
        raise DataError(
            f"{path} is damaged ({_first_line(error)}); prepare it again with --force."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip("\"'").splitlines() or [type(error).__name__])[0]


def _check_version(file: h5py.File, path: Path) -> None:
    if file.attrs.get("format") != FORMAT:
        raise DataError(f"{path} is an HDF5 file but no episode store; make one with `pamela prepare`.")
    version = file.attrs.get("format_version")
    if version != VERSION:
        raise DataError(
            f"{path} is an episode store of version {version}, this program reads version {VERSION}; "
            "prepare it again with --force."
        )


def _check_split(file: h5py.File, name: str, path: Path) -> None:
    """Check one split's types, shapes and sizes against each other."""
    fault = _missing(file, name) or _wrong_images(file[name]["images"]) or _wrong_classes(file[name])
    if fault:
        raise DataError(f"{path}: {name}{fault}; prepare it again with --force.")


def _missing(file: h5py.File, name: str) -> str | None:
    if not isinstance(file.get(name), h5py.Group):
        return " is missing"
    for part in ("images", "class_offsets", "class_names"):
        if not isinstance(file[name].get(part), h5py.Dataset):
            return f"/{part} is missing"
    return None if "images_sha256" in file[name].attrs else " lacks the attribute 'images_sha256'"


def _wrong_images(images: Any) -> str | None:
    if images.dtype != np.uint8:
        return f"/images is {images.dtype}, not uint8"
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] not in (1, 3):
        return f"/images has shape {images.shape}, not (N, size, size, 1 or 3)"
    if images.shape[0] == 0 or images.shape[1] == 0:
        return "/images is empty"
    # Chunks that were never written would read as zeros, and a false shape would ask for memory without end.
    if images.id.get_create_plist().get_nfilters() == 0 and images.id.get_storage_size() < images.nbytes:
        return "/images is not all there"
    return None


def _wrong_classes(group: Any) -> str | None:
    offsets, names = group["class_offsets"], group["class_names"]
    if offsets.dtype != np.int64 or offsets.ndim != 1 or offsets.shape[0] < 2:
        return "/class_offsets is not int64 (classes + 1)"
    if names.shape != (offsets.shape[0] - 1,):
        return f"/class_names has shape {names.shape}, not ({offsets.shape[0] - 1},)"
    values = offsets[()]
    if values[0] != 0 or values[-1] != group["images"].shape[0] or (np.diff(values) <= 0).any():
        return "/class_offsets does not fit its images"
    return None

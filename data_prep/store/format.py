"""Episode store, version 1: the names, limits and checksums that reader, writer and verifier share.

`docs/datasets.md` describes the file for readers in other languages; the two must say the same.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FORMAT = "pamela-episode-store"
VERSION = 1
SPLITS = ("train", "val", "test")

WAYS = (5, 20)
SHOTS = (1, 5)
QUERY = 15
TASKS = 600

MAX_NAME_BYTES = 4096  # of a class; no path is longer

Images = NDArray[np.uint8]
Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total)."""


@dataclass(frozen=True)
class StoreSummary:
    """What a store holds: `splits` is {"train": {"classes": 64, "images": 38400}, …}."""

    store: Path
    dataset: str
    form: str
    image_size: int
    splits: dict[str, dict[str, int]]
    sha256: str


def episodes_key(way: int, shot: int) -> str:
    """Name of the frozen tasks of one setting inside `episodes/<split>`."""
    return f"{way}way-{shot}shot"


def no_progress(stage: str, done: int, total: int) -> None:
    """Take the place of a progress callback that was not given."""


def array_line(path: str, array: NDArray[np.generic]) -> str:
    """Line of the content checksum for a small array, taken as little-endian C-order bytes."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return content_line(path, array.dtype.name, array.shape, hashlib.sha256(little.tobytes()).hexdigest())


def names_line(path: str, names: Iterable[str]) -> str:
    """Line of the content checksum for class names, each followed by a zero byte."""
    encoded = [name.encode() + b"\0" for name in names]
    return content_line(path, "utf-8", (len(encoded),), hashlib.sha256(b"".join(encoded)).hexdigest())


def content_line(path: str, dtype: str, shape: tuple[int, ...], digest: str) -> str:
    """Line of the content checksum: path, type, shape and SHA-256 of one dataset."""
    return f"{path} {dtype} {'x'.join(map(str, shape))} {digest}\n"


def content_sha256(lines: Iterable[str]) -> str:
    """Return the SHA-256 of the content lines in byte order: equal for equal content, whatever its source."""
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


class ChannelStatistics:
    """Mean and standard deviation of pixels / 255, exact up to the last rounding."""

    def __init__(self, channels: int) -> None:
        self._counts = np.zeros((channels, 256), np.int64)

    def add(self, images: Images) -> None:
        """Count the pixels of uint8 images (N, H, W, C)."""
        for channel in range(len(self._counts)):
            self._counts[channel] += np.bincount(images[..., channel].reshape(-1), minlength=256)

    def result(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation, each float64 (C,)."""
        total = self._counts.sum(axis=1)
        value = np.arange(256)
        first, second = self._counts @ value, self._counts @ value**2
        # Integers up to here, so that neither the order nor the size of the blocks can change a bit.
        mean = first / total
        variance = np.maximum(second / total - mean**2, 0.0)
        return mean / 255, np.sqrt(variance) / 255


def split_counts(offsets: Mapping[str, NDArray[np.int64]]) -> dict[str, dict[str, int]]:
    """Classes and images of each split from its class offsets."""
    return {split: {"classes": len(o) - 1, "images": int(o[-1])} for split, o in offsets.items()}

"""Small stores, small images and the shared data, for the tests of data preparation."""

import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.sources import omniglot
from data_prep.store import SPLITS, Origin, SplitContent, Store, write_store
from data_prep.store.format import Images

SHARED_DATA = Path(os.environ.get("PAMELA_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")


def shared_data(name: str) -> Path:
    """Return a file of the shared data; skip the test where it is absent."""
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path


def origin() -> Origin:
    """Return an origin for stores that tests make up."""
    return Origin("made-up", "arrays of a test", lambda: "0" * 64, "nobody", "none")


def random_images(counts: Sequence[int], size: int = 8, channels: int = 1, seed: int = 0) -> list[Images]:
    """Return random images of each class, uint8 (count, size, size, channels)."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (n, size, size, channels), np.uint8) for n in counts]


def content(classes: Sequence[Images], block: int = 7) -> SplitContent:
    """Return a split of classes named class00, class01, …, given in blocks."""

    def blocks() -> Iterator[tuple[int, Images]]:
        for label, images in enumerate(classes):
            for first in range(0, len(images), block):
                yield label, images[first : first + block]

    names = [f"class{label:02}" for label in range(len(classes))]
    return SplitContent(names, blocks(), sum(map(len, classes)))


def write_small_store(out: Path, counts: Sequence[int] = (20, 16, 25, 20, 31, 20), block: int = 7) -> Path:
    """Write a store whose splits have the same random images."""
    classes = random_images(counts)
    splits = {name: content(classes, block) for name in SPLITS}
    return write_store(out, origin(), splits, image_size=8, channels=1).store


def png(size: int = 32, mode: str = "RGB", seed: int = 0) -> bytes:
    """Return a PNG file of random pixels."""
    channels = len(mode)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, channels), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "PNG")
    return buffer.getvalue()


def huge_png(side: int) -> bytes:
    """Return a PNG that promises side × side pixels and has none."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def omniglot_files(part: str) -> dict[str, bytes]:
    """Return one drawing of each character of a part of Omniglot, by name."""
    page = Image.new("1", (105, 105), 1)
    page.paste(0, (20, 20, 30, 90))
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    names = [name for own, _, name in omniglot._characters() if own == part]
    return {f"{name}/0001_01.png": buffer.getvalue() for name in names}


class Listed:
    """A tree of names alone."""

    path, kind, unreadable, empty = Path("listed"), "folder", (), ()

    def __init__(self, names: list[str]) -> None:
        self._names = sorted(names)

    def names(self) -> list[str]:
        """Return the names, sorted."""
        return self._names


def class_names(store: Path) -> dict[str, list[str]]:
    """Return the classes of each split of a store."""
    with Store.open(store) as opened:
        return {split: opened.split(split).class_names for split in SPLITS}


def write_tar(path: Path, files: dict[str, bytes], archive_format: int = tarfile.PAX_FORMAT) -> Path:
    """Write files by name into a tar; return its path."""
    with tarfile.open(path, "w", format=archive_format) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    """Write files by name below a folder; return the folder."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def write_zip(path: Path, files: dict[str, bytes], root: str = "") -> Path:
    """Write files by name into a zip; return its path."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(root + name, data)
    return path

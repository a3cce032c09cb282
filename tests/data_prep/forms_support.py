"""Made-up images, and the files that they are packed into."""

import csv
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]
Pictures = dict[str, dict[str, bytes]]
"""Encoded images: class → file name → bytes."""


def encoded(array: Array, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def pixels(data: bytes) -> Array:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def make_pictures(counts: Mapping[str, int], size: int, kind: str = "PNG", seed: int = 0) -> Pictures:
    """Return random images of each class: coarse ones, which are small as files and survive as JPEG."""
    rng = np.random.default_rng(seed)
    coarse = size // 4

    def picture() -> bytes:
        return encoded(rng.integers(0, 256, (coarse, coarse, 3), np.uint8).repeat(4, 0).repeat(4, 1), kind)

    suffix = {"PNG": "png", "JPEG": "jpg"}[kind]
    return {
        name: {f"{name}{n:08}.{suffix}": picture() for n in range(count)} for name, count in counts.items()
    }


def stacked(pictures: Pictures) -> tuple[Array, list[str]]:
    """Return all images as an array, in the order of classes and file names, and their classes."""
    images = [pixels(data) for files in pictures.values() for data in files.values()]
    return np.stack(images), [name for name, files in pictures.items() for _ in files]


def dump(path: Path, value: object, protocol: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol))


def with_bytes(value: Any) -> Any:
    """Return what Python 2 would have written: byte strings for str."""
    if isinstance(value, dict):
        return {with_bytes(key): with_bytes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_bytes(item) for item in value]
    return value.encode() if isinstance(value, str) else value


def write_files(folder: Path, pictures: Pictures, prefix: str = "") -> None:
    for name, files in pictures.items():
        for file, data in files.items():
            path = folder / prefix / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def write_csv(path: Path, header: tuple[str, str], rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def write_parquet(
    path: Path, columns: tuple[str, str], rows: list[tuple[bytes, str | None, int]], names: list[str]
) -> None:
    """Write a table as the library `datasets` does."""
    image, label = columns
    info = {"features": {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}}
    table = pa.table(
        {
            image: pa.array(
                [{"bytes": data, "path": file} for data, file, _ in rows],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            ),
            label: pa.array([number for _, _, number in rows], pa.int64()),
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": info})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=50)


def pack_zip(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


def pack_tar(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(folder, "top")
    return path


Writer = Callable[[Path, dict[str, Pictures]], None]
"""Writes the splits of a dataset into a folder, in one form."""

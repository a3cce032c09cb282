"""Files of the datasets in all their forms, as datasets.md describes them, made from the same images."""

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
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


def pack_tar(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "top")
    return path


Writer = Callable[[Path, dict[str, Pictures]], None]
"""Writes the splits of a dataset into a folder, in one form."""


# CIFAR-100


def cifar_folders(folder: Path, splits: dict[str, Pictures]) -> None:
    for pictures in splits.values():
        write_files(folder, pictures, "cifar100/data")


def cifar_official(folder: Path, splits: dict[str, Pictures], protocol: int = 2) -> None:
    """The first images of each class are of the official train part, in a random order."""
    names = sorted(name for pictures in splits.values() for name in pictures)
    rng = np.random.default_rng(1)
    rows = [
        (names.index(name), file, data, number > 0)
        for pictures in splits.values()
        for name, files in pictures.items()
        for number, (file, data) in enumerate(files.items())
    ]
    rows = [rows[at] for at in rng.permutation(len(rows))]
    for part, wanted in (("train", True), ("test", False)):
        own = [row for row in rows if row[3] == wanted]
        value = {
            "filenames": [file for _, file, _, _ in own],
            "batch_label": f"{part} batch",
            "fine_labels": [label for label, _, _, _ in own],
            "coarse_labels": [0 for _ in own],
            "data": np.stack([pixels(data).transpose(2, 0, 1).reshape(-1) for _, _, data, _ in own]),
        }
        dump(folder / "cifar-100-python" / part, with_bytes(value), protocol)
    meta = {"fine_label_names": names, "coarse_label_names": ["x"]}
    dump(folder / "cifar-100-python" / "meta", with_bytes(meta), protocol)


def cifar_official_5(folder: Path, splits: dict[str, Pictures]) -> None:
    cifar_official(folder, splits, 5)


def cifar_fs_pickles(folder: Path, splits: dict[str, Pictures]) -> None:
    first = 0
    for split, pictures in splits.items():
        data, classes = stacked(pictures)
        labels = [first + list(pictures).index(name) for name in classes]
        first += len(pictures)
        dump(folder / f"CIFAR_FS_{split}.pickle", {"data": data, "labels": labels})


def cifar_parquet(folder: Path, splits: dict[str, Pictures]) -> None:
    names = sorted(name for pictures in splits.values() for name in pictures)
    rows = [
        (data, None, names.index(name))
        for pictures in splits.values()
        for name, files in pictures.items()
        for data in files.values()
    ]
    rows = [rows[at] for at in np.random.default_rng(2).permutation(len(rows))]
    wrong = ["cra" if name == "crab" else name for name in names]
    for part, own in (("train", rows[: len(rows) // 2]), ("test", rows[len(rows) // 2 :])):
        write_parquet(
            folder / "cifar100" / f"{part}-00000-of-00001.parquet", ("img", "fine_label"), own, wrong
        )


# miniImageNet


def mini_caches(folder: Path, splits: dict[str, Pictures], old: bool = False) -> None:
    for split, pictures in splits.items():
        data, classes = stacked(pictures)
        class_dict = {name: [at for at, own in enumerate(classes) if own == name] for name in pictures}
        value = {"image_data": data, "class_dict": class_dict}
        called = "validation" if split == "val" and old else split
        dump(
            folder / f"mini-imagenet-cache-{called}.pkl", with_bytes(value) if old else value, 0 if old else 4
        )


def mini_old_caches(folder: Path, splits: dict[str, Pictures]) -> None:
    mini_caches(folder, splits, old=True)


def mini_category_splits(folder: Path, splits: dict[str, Pictures]) -> None:
    first = 0
    for split, pictures in splits.items():
        data, classes = stacked(pictures)
        catname2label = {name: first + number for number, name in enumerate(pictures)}
        first += len(pictures)
        value = {
            "data": data,
            "labels": [catname2label[name] for name in classes],
            "catname2label": catname2label,
        }
        name = "train_phase_train" if split == "train" else split
        dump(folder / f"miniImageNet_category_split_{name}.pickle", value)
        if split == "train":  # other images of the same classes, which are not to be used
            half = {**value, "data": data[::2], "labels": value["labels"][::2]}
            dump(folder / "miniImageNet_category_split_train_phase_val.pickle", half)


def mini_lists(folder: Path, splits: dict[str, Pictures]) -> None:
    (folder / "images").mkdir(parents=True)
    for split, pictures in splits.items():
        for files in pictures.values():
            for file, data in files.items():
                (folder / "images" / file).write_bytes(data)
        rows = [(file, name) for name, files in pictures.items() for file in files]
        write_csv(folder / f"{split}.csv", ("filename", "label"), rows[::-1])


def mini_imagenet_tree(folder: Path, splits: dict[str, Pictures]) -> None:
    for split, pictures in splits.items():
        write_files(folder, pictures, "ILSVRC2012/train")
        rows = [(name, file) for name, files in pictures.items() for file in files]
        write_csv(folder / f"{split}.csv", ("class_name", "image_name"), rows)
    write_files(folder, make_pictures({"n00000001": 2}, 84, "JPEG"), "ILSVRC2012/train")


def split_folders(folder: Path, splits: dict[str, Pictures]) -> None:
    for split, pictures in splits.items():
        write_files(folder, pictures, split)


def class_folders(folder: Path, splits: dict[str, Pictures]) -> None:
    for pictures in splits.values():
        write_files(folder, pictures)


def mini_parquet(folder: Path, splits: dict[str, Pictures]) -> None:
    names = sorted(name for pictures in splits.values() for name in pictures)
    rows = [
        (data, file, names.index(name))
        for pictures in splits.values()
        for name, files in pictures.items()
        for file, data in files.items()
    ]
    rows = [rows[at] for at in np.random.default_rng(2).permutation(len(rows))]
    for number, part in enumerate(("train", "validation", "test")):
        write_parquet(folder / "data" / f"{part}-0.parquet", ("image", "label"), rows[number::3], names)


# tieredImageNet


def tiered_labels(pictures: Pictures, rows: list[str]) -> dict[str, Any]:
    names = list(pictures)
    labels = np.array([names.index(name) for name in rows], np.int32)
    return {
        "label_specific": labels,
        "label_general": labels // 10,
        "label_specific_str": names,
        "label_general_str": ["animal"],
    }


def tiered_png_pickles(folder: Path, splits: dict[str, Pictures], old: bool = False) -> None:
    for split, pictures in splits.items():
        files = [data for own in pictures.values() for data in own.values()]
        images = [np.frombuffer(data, np.uint8) for data in files]
        order = np.random.default_rng(3).permutation(len(images)) if old else np.arange(len(images))
        labels = tiered_labels(
            pictures, [stacked_name for name, own in pictures.items() for stacked_name in [name] * len(own)]
        )
        labels["label_specific"] = labels["label_specific"][order]
        dump(folder / f"{split}_images_png.pkl", [images[at] for at in order], 2)
        dump(folder / f"{split}_labels.pkl", with_bytes(labels) if old else labels, 2)


def tiered_old_png_pickles(folder: Path, splits: dict[str, Pictures]) -> None:
    tiered_png_pickles(folder, splits, old=True)


def tiered_npz(folder: Path, splits: dict[str, Pictures], packed: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, pictures in splits.items():
        data, classes = stacked(pictures)
        save = np.savez_compressed if packed else np.savez
        save(folder / f"{split}_images.npz", images=data[..., ::-1])
        labels = tiered_labels(pictures, classes)
        dump(folder / f"{split}_labels.pkl", {"labels": labels["label_specific"].tolist()})


def tiered_packed_npz(folder: Path, splits: dict[str, Pictures]) -> None:
    tiered_npz(folder, splits, packed=True)

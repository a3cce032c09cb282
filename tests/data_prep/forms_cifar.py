"""CIFAR-100 in all its forms, made from the same images."""

from pathlib import Path

import numpy as np
from forms_support import Pictures, dump, pixels, stacked, with_bytes, write_files, write_parquet


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

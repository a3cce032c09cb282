"""miniImageNet and tieredImageNet in all their forms, made from the same images."""

from pathlib import Path
from typing import Any

import numpy as np
from forms_support import (
    Pictures,
    dump,
    make_pictures,
    stacked,
    with_bytes,
    write_csv,
    write_files,
    write_parquet,
)


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

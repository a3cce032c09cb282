"""A file on its own: a whole dataset is taken, a part says what it is a part of, anything else is refused."""

import csv
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from known_forms import AllPictures

from data_prep import DataError, prepare

pytestmark = pytest.mark.usefixtures("small_datasets")

Written = Callable[[str, str], Path]


def sole_table(folder: Path, out: Path) -> Path:
    """Write all tables of a folder into one."""
    tables = [pq.read_table(path) for path in sorted(folder.rglob("*.parquet"))]
    pq.write_table(pa.concat_tables(tables), out)
    return out


@pytest.mark.parametrize("dataset", ["cifar-fs", "fc100", "miniimagenet"])
def test_one_table_of_all_images_is_a_dataset(tmp_path: Path, written: Written, dataset: str) -> None:
    folder = written(dataset, "parquet")
    lone = prepare(dataset, sole_table(folder, tmp_path / "all.parquet"), tmp_path / "lone.h5")
    assert lone.form.endswith("(file)")
    assert lone.sha256 == prepare(dataset, folder, tmp_path / "folder.h5").sha256


def test_one_pickle_of_both_official_parts_is_a_dataset(tmp_path: Path, written: Written) -> None:
    folder = written("cifar-fs", "official")
    parts = [pickle.loads(path.read_bytes()) for path in sorted(folder.rglob("t*")) if path.is_file()]
    both = {
        b"data": np.concatenate([part[b"data"] for part in parts]),
        b"fine_labels": [label for part in parts for label in part[b"fine_labels"]],
        b"filenames": [name for part in parts for name in part[b"filenames"]],
    }
    (tmp_path / "both").write_bytes(pickle.dumps(both, 2))
    lone = prepare("cifar-fs", tmp_path / "both", tmp_path / "lone.h5")
    assert lone.sha256 == prepare("cifar-fs", folder, tmp_path / "folder.h5").sha256


PARTS = [
    ("miniimagenet", "cache", "mini-imagenet-cache-train.pkl", "miniImageNet: it lacks val and test;"),
    ("miniimagenet", "cache of Python 2", "mini-imagenet-cache-validation.pkl", "lacks train and test;"),
    ("miniimagenet", "category split", "*_test.pickle", "miniImageNet: it lacks train and val;"),
    (
        "miniimagenet",
        "lists",
        "val.csv",
        "does not have exactly one CSV file of images for train and test; pass a folder",
    ),
    ("miniimagenet", "parquet", "train-0.parquet", "mini-imagenet: it lacks validation and test;"),
    ("cifar-fs", "official", "train", "CIFAR-100: it lacks test;"),
    ("fc100", "official", "test", "CIFAR-100: it lacks train;"),
    ("cifar-fs", "splits", "CIFAR_FS_train.pickle", "CIFAR-FS: it lacks val and test;"),
    ("fc100", "parquet", "train-*", "uoft-cs/cifar100: it lacks test;"),
    (
        "tieredimagenet",
        "png",
        "val_images_png.pkl",
        "it lacks train images, train labels, val labels, test images and test labels;",
    ),
    (
        "tieredimagenet",
        "npz",
        "train_images.npz",
        "it lacks train labels, val images, val labels, test images and test labels;",
    ),
    (
        "tieredimagenet",
        "png of Python 2",
        "test_labels.pkl",
        "it lacks train images, train labels, val images, val labels and test images;",
    ),
    (
        "tieredimagenet",
        "packed npz",
        "train_labels.pkl",
        "it lacks train images, val images, val labels, test images and test labels;",
    ),
]


def fails(dataset: str, source: Path, out: Path) -> str:
    """Return the sentence that says why a source cannot be prepared."""
    with pytest.raises(DataError) as error:
        prepare(dataset, source, out)
    said = str(error.value)
    assert said.count(str(source)) == 1 and "\n" not in said and said.endswith(".")
    assert not out.exists()
    return said


@pytest.mark.parametrize(("dataset", "form", "name", "missing"), PARTS)
def test_a_part_says_what_is_missing(
    tmp_path: Path, written: Written, dataset: str, form: str, name: str, missing: str
) -> None:
    source = next(written(dataset, form).rglob(name))
    said = fails(dataset, source, tmp_path / "out.h5")
    assert missing in said
    assert "CSV" in said or "pass the folder that holds all parts" in said


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("train-00001-of-00007.parquet", "lacks 6 of 7 files of train, validation and test;"),
        ("0000.parquet", "lacks 200 of its 300 images;"),
    ],
)
def test_a_table_of_several_says_what_its_name_tells(
    tmp_path: Path, written: Written, name: str, missing: str
) -> None:
    table = next(written("miniimagenet", "parquet").rglob("train-0.parquet"))
    (tmp_path / name).write_bytes(table.read_bytes())
    assert missing in fails("miniimagenet", tmp_path / name, tmp_path / "out.h5")


DATASETS = ["miniimagenet", "tieredimagenet", "cifar-fs", "fc100", "omniglot", "folder"]


@pytest.mark.parametrize("dataset", DATASETS)
def test_any_other_file_is_refused(tmp_path: Path, pictures: AllPictures, dataset: str) -> None:
    picture = next(iter(next(iter(pictures["cifar-fs"]["val"].values())).values()))
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "other.parquet")
    with (tmp_path / "other.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["name", "price"], ["apple", "1"]])
    files = {
        "empty": b"",
        "notes.txt": b"hello",
        "other.pkl": pickle.dumps({"data": [1, 2], "labels": ["a", "b"]}),
        "store.h5": b"\x89HDF\r\n\x1a\n",
        "picture.png": picture,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for source in sorted(tmp_path.iterdir()):
        assert "nor any other file that this" in fails(dataset, source, tmp_path / "out.h5"), source


def test_a_damaged_file_is_named(tmp_path: Path, written: Written) -> None:
    whole = next(written("miniimagenet", "cache").rglob("*train.pkl")).read_bytes()
    (tmp_path / "cut.pkl").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in fails("miniimagenet", tmp_path / "cut.pkl", tmp_path / "out.h5")
    table = next(written("cifar-fs", "parquet").rglob("train*")).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(table[: len(table) // 2])
    assert "cannot be read" in fails("cifar-fs", tmp_path / "cut.parquet", tmp_path / "out.h5")

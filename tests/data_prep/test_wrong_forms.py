"""What is wrong with a form of a dataset is said, and nothing in it runs."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from known_forms import AllPictures, changed, write

from data_prep import DataError, prepare

pytestmark = pytest.mark.usefixtures("small_datasets")


def without(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        next(folder.rglob(name)).unlink()

    return change


def twice(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = next(folder.rglob(name))
        shutil.copy(path, path.with_name("again-" + path.name))

    return change


WRONG: dict[str, tuple[str, str, Callable[[Path], None], str]] = {
    "official part": ("cifar-fs", "official", without("test"), "lacks test of CIFAR-100"),
    "official other part": ("fc100", "official", without("train"), "lacks train of CIFAR-100"),
    "official label": (
        "cifar-fs",
        "official",
        changed("train", lambda v: v.update({b"fine_labels": [100, *v[b"fine_labels"][1:]]})),  # type: ignore[index]
        "the label 100",
    ),
    "official names": (
        "cifar-fs",
        "official",
        changed("train", lambda v: v.update({b"filenames": []})),
        "a file name for each image",
    ),
    "official shape": (
        "cifar-fs",
        "official",
        changed("train", lambda v: v.update({b"data": v[b"data"].astype(np.float32)})),  # type: ignore[attr-defined]
        "no images of 32 × 32",
    ),
    "splits part": ("cifar-fs", "splits", without("*val*"), "lacks val of CIFAR-FS"),
    "splits twice": ("cifar-fs", "splits", twice("*val*"), "val of CIFAR-FS more than once"),
    "splits labels": (
        "cifar-fs",
        "splits",
        changed("*val*", lambda v: v.update(labels=[label - 64 for label in v["labels"]])),  # type: ignore[attr-defined]
        "a label in two splits",
    ),
    "cache part": ("miniimagenet", "cache", without("*test*"), "lacks test of miniImageNet"),
    "cache twice": ("miniimagenet", "cache", twice("*test*"), "test of miniImageNet more than once"),
    "cache index": (
        "miniimagenet",
        "cache",
        changed("*val*", lambda v: v["class_dict"].update(n01855672=[0, 1, 9999])),  # type: ignore[attr-defined]
        "indices of images that do not exist",
    ),
    "cache count": (
        "miniimagenet",
        "cache",
        changed("*val*", lambda v: v["class_dict"].update(n01855672=[0, 1])),  # type: ignore[attr-defined]
        "n01855672 has 2 images, not 3",
    ),
    "category": ("miniimagenet", "category split", without("*phase_train*"), "lacks train of miniImageNet"),
    "list": (
        "miniimagenet",
        "lists",
        without("val.csv"),
        "does not have exactly one CSV file of images for val",
    ),
    "listed": ("miniimagenet", "lists", without("*.jpg"), "listed in .*, is missing"),
    "folder": ("miniimagenet", "split folders", without("*.jpg"), "has 2 images, not 3"),
    "labels": ("tieredimagenet", "png", without("val_labels.pkl"), "lacks val labels of tieredImageNet"),
    "images": ("tieredimagenet", "npz", without("val_images.npz"), "lacks val images of tieredImageNet"),
    "images twice": (
        "tieredimagenet",
        "npz",
        twice("val_images.npz"),
        "images of val more than once .*val_images.npz",
    ),
    "labels twice": ("tieredimagenet", "png", twice("val_labels.pkl"), "labels of val more than once"),
    "labels of others": (
        "tieredimagenet",
        "png",
        changed("val_labels.pkl", lambda v: v.update(label_specific=[*range(97), 0])),
        "lacks val labels that fit its images of tieredImageNet",
    ),
    "parquet part": ("fc100", "parquet", without("test-*"), "lacks test of uoft-cs/cifar100"),
    "parquet": ("miniimagenet", "parquet", without("validation-*"), "lacks validation of timm/mini-imagenet"),
    "one image": ("tieredimagenet", "class folders", without("*.png"), "lacks 1 of the"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_form_is_said(
    tmp_path: Path, written: Callable[[str, str], Path], case: str
) -> None:
    dataset, form, change, sentence = WRONG[case]
    source = shutil.copytree(written(dataset, form), tmp_path / "x")
    change(source)
    with pytest.raises(DataError, match=sentence) as error:
        prepare(dataset, source, tmp_path / "store.h5")
    assert "\n" not in str(error.value) and str(source) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_hostile_pickle_among_the_parts_is_named(tmp_path: Path, pictures: AllPictures) -> None:
    source = write(tmp_path / "x", "miniimagenet", "cache", pictures)
    target = tmp_path / "it-ran"
    bad = f"cos\nsystem\n(S'touch {target}'\ntR.".encode()
    (source / "notes.pkl").write_bytes(b"\x80\x02" + bad)  # a stranger does no harm
    prepare("miniimagenet", source, tmp_path / "one.h5")
    for path in source.glob("mini*"):
        path.write_bytes(b"\x80\x02" + bad)
    with pytest.raises(DataError, match=r"asks for os\.system"):
        prepare("miniimagenet", source, tmp_path / "two.h5")
    assert not target.exists()


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, pictures: AllPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "x", "cifar-fs", "parquet", pictures)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match="pip install pyarrow"):
        prepare("cifar-fs", source, tmp_path / "s.h5")


def test_two_copies_of_the_official_pickles_are_said(tmp_path: Path, pictures: AllPictures) -> None:
    for copy in ("one", "two"):
        write(tmp_path / "x" / copy, "cifar-fs", "official", pictures)
    with pytest.raises(DataError, match="holds CIFAR-100 more than once"):
        prepare("cifar-fs", tmp_path / "x", tmp_path / "s.h5")


def test_imagenet_itself_needs_lists(tmp_path: Path, pictures: AllPictures) -> None:
    source = write(tmp_path / "x", "miniimagenet", "class folders", pictures)
    for file in list(source.rglob("*.jpg")):
        shutil.copy(file, file.with_name(f"more-{file.name}"))
    with pytest.raises(DataError, match=r"has 6 images, not 3; ImageNet itself needs train\.csv, val\.csv"):
        prepare("miniimagenet", source, tmp_path / "s.h5")

"""Every form of every dataset, in a few images a class."""

import pickle
from collections.abc import Callable
from pathlib import Path

import forms_cifar
import forms_imagenet
from forms_support import Pictures, Writer

AllPictures = dict[str, dict[str, Pictures]]
"""Encoded images: dataset → split → class → file name → bytes."""

FEW = 3

# Form: what writes it, what it is called, and whether it has class names and file names to order by.
FORMS: dict[str, dict[str, tuple[Writer, str, bool]]] = {
    "cifar-fs": {
        "folders": (forms_cifar.cifar_folders, "class folders of PNG files", True),
        "official": (forms_cifar.cifar_official, "official pickles of CIFAR-100", True),
        "official, protocol 5": (forms_cifar.cifar_official_5, "official pickles of CIFAR-100", True),
        "parquet": (forms_cifar.cifar_parquet, "parquet of uoft-cs/cifar100", False),
        "splits": (forms_cifar.cifar_fs_pickles, "pickles of the splits of CIFAR-FS", False),
    },
    "fc100": {
        "folders": (forms_cifar.cifar_folders, "class folders of PNG files", True),
        "official": (forms_cifar.cifar_official, "official pickles of CIFAR-100", True),
        "parquet": (forms_cifar.cifar_parquet, "parquet of uoft-cs/cifar100", False),
    },
    "miniimagenet": {
        "cache": (forms_imagenet.mini_caches, "cache pickles of miniImageNet", True),
        "cache of Python 2": (forms_imagenet.mini_old_caches, "cache pickles of miniImageNet", True),
        "category split": (
            forms_imagenet.mini_category_splits,
            "category split pickles of miniImageNet",
            True,
        ),
        "lists": (forms_imagenet.mini_lists, "images and Ravi and Larochelle's CSV files", True),
        "ILSVRC": (forms_imagenet.mini_imagenet_tree, "images and CSV files over ImageNet", True),
        "split folders": (forms_imagenet.split_folders, "class folders of images", True),
        "class folders": (forms_imagenet.class_folders, "class folders of images", True),
        "parquet": (forms_imagenet.mini_parquet, "parquet of timm/mini-imagenet", True),
    },
    "tieredimagenet": {
        "split folders": (forms_imagenet.split_folders, "class folders of images", True),
        "class folders": (forms_imagenet.class_folders, "class folders of images", True),
        "png": (forms_imagenet.tiered_png_pickles, "pickles of PNG files", True),
        "png of Python 2": (forms_imagenet.tiered_old_png_pickles, "pickles of PNG files", False),
        "npz": (forms_imagenet.tiered_npz, "npz arrays, blue and red swapped back", False),
        "packed npz": (forms_imagenet.tiered_packed_npz, "npz arrays, blue and red swapped back", False),
    },
}
ALL = [(dataset, form) for dataset, own in FORMS.items() for form in own]


def few(dataset: str) -> int:
    """Return how many images a class has."""
    return 1 if dataset == "tieredimagenet" else FEW


def write(folder: Path, dataset: str, form: str, pictures: AllPictures) -> Path:
    """Write a form into a folder that says nothing about it."""
    folder.mkdir(parents=True, exist_ok=True)
    FORMS[dataset][form][0](folder, pictures[dataset])
    return folder


def changed(name: str, change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    """Return what changes the value of a pickle in a folder."""

    def apply(folder: Path) -> None:
        path = next(folder.rglob(name))
        value = pickle.loads(path.read_bytes())
        change(value)
        path.write_bytes(pickle.dumps(value))

    return apply

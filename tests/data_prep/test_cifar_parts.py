"""CIFAR-100 in class folders: its official parts are joined, and copies of it are not."""

import pytest
from data_prep_support import Listed

from data_prep import DataError
from data_prep.forms.encoded import EncodedImages
from data_prep.sources import cifar100


def folders(counts: dict[str, int]) -> Listed:
    """So many images of each class, in class folders below each root."""
    return Listed(
        [
            f"{root}/{name}/{number:04}.png"
            for root, count in counts.items()
            for name in cifar100.class_names()
            for number in range(count)
        ]
    )


def test_official_parts_of_cifar_in_class_folders_are_joined() -> None:
    found = cifar100.find_png_folders(folders({"cifar/train": 500, "cifar/test": 100}))  # type: ignore[arg-type]
    assert isinstance(found, EncodedImages) and set(found.counts.values()) == {600}
    assert found.files["apple"][:3] == [
        "cifar/test/apple/0000.png", "cifar/train/apple/0000.png", "cifar/test/apple/0001.png",
    ]  # fmt: skip


def test_a_missing_image_of_one_part_is_said() -> None:
    tree = folders({"cifar/train": 500, "cifar/test": 100})
    tree.names().remove("cifar/train/crab/0007.png")
    with pytest.raises(DataError, match="crab has 599 images, not 600"):
        cifar100.find_png_folders(tree)  # type: ignore[arg-type]


def test_copies_of_a_dataset_are_told_apart_by_their_numbers() -> None:
    with pytest.raises(DataError, match=r"more than once \('a' with 60,000 images, 'b' with 50,000 images\)"):
        cifar100.find_png_folders(folders({"a": 600, "b": 500}))  # type: ignore[arg-type]

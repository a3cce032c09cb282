"""One's own images that are divided already: the division holds, wherever it lies."""

from itertools import chain
from pathlib import Path

import pytest
from data_prep_support import SPLITS, class_names, png, write_folder, write_zip

from data_prep import DataError, prepare

CLASSES = {"train": ["ash", "beech", "elm"], "val": ["fir", "larch"], "test": ["oak", "yew"]}


def divided(prefix: str = "", names: tuple[str, str, str] = SPLITS) -> dict[str, bytes]:
    return {
        f"{prefix}{called}/{kind}/{n}.png": png(16, seed=n)
        for called, (_, kinds) in zip(names, CLASSES.items(), strict=True)
        for kind in kinds
        for n in range(2)
    }


@pytest.mark.parametrize("names", [SPLITS, ("Train", "VALID", "Testing")])
@pytest.mark.parametrize("packed", [False, True])
def test_an_image_elsewhere_changes_nothing(
    tmp_path: Path, packed: bool, names: tuple[str, str, str]
) -> None:
    files = divided("repo/data/", names) | {"repo/assets/logo.png": png(16), "repo/cover.png": png(16)}
    source = write_zip(tmp_path / "x.zip", files) if packed else write_folder(tmp_path / "x", files)
    made = prepare("folder", source, tmp_path / "s.h5")
    assert class_names(made.store) == CLASSES
    assert made.form.startswith("train, val and test folders of class folders")
    assert "2 images are in no class folder: repo/assets/logo.png, repo/cover.png." in made.notes


def test_two_divisions_are_not_guessed(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "x", divided("small/") | divided("large/"))
    with pytest.raises(DataError, match="has train, val and test folders in 'large', 'small'"):
        prepare("folder", source, tmp_path / "s.h5")


def test_a_division_of_a_few_images_is_not_taken_for_that_of_all(tmp_path: Path) -> None:
    others = {f"kind{kind}/{n}.png": png(16) for kind in range(20) for n in range(2)}
    source = write_folder(tmp_path / "x", divided("vehicles/") | others)
    with pytest.raises(
        DataError, match=r"in 'vehicles', but they do not hold all .* rename them if they are classes"
    ):
        prepare("folder", source, tmp_path / "s.h5")


def test_classes_called_as_splits_are_classes(tmp_path: Path) -> None:
    files = {f"{kind}/{n}.png": png(16) for kind in ("train", "test", "val", "car", "bus") for n in range(2)}
    made = prepare("folder", write_folder(tmp_path / "x", files), tmp_path / "s.h5")
    assert sorted(chain(*class_names(made.store).values())) == ["bus", "car", "test", "train", "val"]


def test_the_outer_division_counts(tmp_path: Path) -> None:
    inner = {f"train/oddities/{part}/{kind}/1.png": png(16) for part in ("train", "test") for kind in "ab"}
    made = prepare("folder", write_folder(tmp_path / "x", divided() | inner), tmp_path / "s.h5")
    assert {split: len(own) for split, own in class_names(made.store).items()} == {
        "train": 7, "val": 2, "test": 2,
    }  # fmt: skip

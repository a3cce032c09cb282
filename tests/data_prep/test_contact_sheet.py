"""The picture of what was packed."""

from pathlib import Path

import numpy as np
import pytest
from data_prep_support import content, origin, random_images
from PIL import Image

from data_prep import DataError, prepare
from data_prep.contact_sheet import write_contact_sheet
from data_prep.store import SPLITS, SplitContent, write_store
from data_prep.store.format import Images


def colour(label: int) -> tuple[int, int, int]:
    return (40 + 9 * label, 0, 120)  # text is gray


def write_flat_store(out: Path, size: int, counts: list[int]) -> Path:
    """Write a store whose every class is of one colour."""
    classes = [np.full((n, size, size, 3), colour(label), np.uint8) for label, n in enumerate(counts)]
    whole = {name: content(classes) for name in SPLITS}
    return write_store(out, origin(), whole, image_size=size, channels=3).store


def pixels(path: Path) -> Images:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize(("size", "side"), [(8, 48), (28, 56), (32, 64), (84, 84), (200, 96)])
def test_there_is_a_row_of_images_for_each_class(tmp_path: Path, size: int, side: int) -> None:
    store = write_flat_store(tmp_path / "flat.h5", size, [3, 30, 12])
    sheet = pixels(write_contact_sheet(store))
    assert sheet.shape[2] == 3
    for label, shown in enumerate([3, 12, 12]):
        found = (sheet == colour(label)).all(axis=2)
        assert found.sum() == 3 * shown * side * side
        rows = np.flatnonzero(found.any(axis=1))
        assert len(rows) == 3 * side


def test_a_few_of_many_classes_are_shown(tmp_path: Path) -> None:
    store = write_flat_store(tmp_path / "flat.h5", 8, [1] * 20)
    sheet = pixels(write_contact_sheet(store))
    seen = [label for label in range(20) if (sheet == colour(label)).all(axis=2).sum() == 3 * 48 * 48]
    assert len(seen) == 12 and seen[0] == 0 and seen[-1] == 19


@pytest.mark.parametrize("name", ["a" * 300, "long name / of many words " * 9, "名前", "a\nb", "\u200b", " "])
def test_any_name_can_be_written(tmp_path: Path, name: str) -> None:
    images = random_images([2])[0]
    splits = {split: SplitContent([name], [(0, images)], 2) for split in SPLITS}
    write_store(tmp_path / "s.h5", origin(), splits, image_size=8, channels=1)
    assert pixels(write_contact_sheet(tmp_path / "s.h5")).shape[1] > 500


def test_prepare_makes_one_and_makes_it_again(tmp_path: Path, glyphs: Path) -> None:
    assert glyphs.with_suffix(".png").exists()
    store = write_flat_store(tmp_path / "x.v2.h5", 8, [2, 2])
    before = write_contact_sheet(store)
    assert before == tmp_path / "x.v2.png"
    assert write_contact_sheet(write_flat_store(store, 8, [2, 2, 2])) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.v2.h5", "x.v2.png"]


def test_another_picture_of_that_name_is_left(tmp_path: Path) -> None:
    picture = tmp_path / "glyphs.png"
    for data in (b"precious", None):
        if data:
            picture.write_bytes(data)
        else:
            Image.new("RGB", (5, 5)).save(picture)
        old = picture.read_bytes()
        with pytest.raises(DataError, match="not a contact sheet; it is left"):
            write_contact_sheet(write_flat_store(tmp_path / "glyphs.h5", 8, [2]))
        assert picture.read_bytes() == old


def test_a_store_is_made_even_if_its_sheet_cannot_be(tmp_path: Path) -> None:
    for label in range(3):
        (tmp_path / "own" / f"class{label}").mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / "own" / f"class{label}" / "1.png")
    (tmp_path / "own.png").write_text("a drawing")
    made = prepare("folder", tmp_path / "own", tmp_path / "own.h5")
    assert made.store.exists() and made.contact_sheet is None
    assert any("not a contact sheet" in note for note in made.notes)

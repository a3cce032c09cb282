"""`prepare folder`: one's own images, as they come."""

import io
import os
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from data_prep_support import SPLITS, Listed, class_names, huge_png, png, write_folder, write_zip
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_prep import DataError, Prepared, Store, prepare, stored_name, verify_store
from data_prep.forms.own_images import find_own_images
from data_prep.sources.folder import name_of

CLASSES = [f"kind{number:02}" for number in range(15)]


def coloured(seed: int, kind: str = "JPEG") -> bytes:
    """Return an image of one colour, of a size of its own."""
    rng = np.random.default_rng(seed)
    width, height, *colour = rng.integers(20, 200, 5).tolist()
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), tuple(colour)).save(buffer, kind)
    return buffer.getvalue()


def folders(classes: list[str] = CLASSES, images: int = 3, kind: str = "JPEG") -> dict[str, bytes]:
    return {
        f"{name}/{number}.{kind.lower()}": coloured(1000 * row + number, kind)
        for row, name in enumerate(classes)
        for number in range(images)
    }


def made_from(files: dict[str, bytes], tmp_path: Path, **options: object) -> Prepared:
    source = write_folder(tmp_path / "flowers", files)
    return prepare("folder", source, tmp_path / "out.h5", **options)  # type: ignore[arg-type]


def test_class_folders_are_divided_and_every_image_is_there(tmp_path: Path) -> None:
    made = made_from(folders(), tmp_path)
    assert verify_store(made.store).splits == made.splits
    assert made.dataset == "flowers" and made.form == "class folders (folder)" and made.image_size == 84
    assert [own["classes"] for own in made.splits.values()] == [10, 2, 3]
    with Store.open(made.store) as store:
        assert store.channels == 3
        for split in map(store.split, SPLITS):
            assert split.class_names == sorted(split.class_names)
            for label, image in enumerate(split.read()):
                row = CLASSES.index(split.class_names[label // 3])
                data = coloured(1000 * row + label % 3)
                expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[10, 10]
                assert np.abs(image.astype(int) - expected).max() <= 2


def test_the_division_is_the_same_whatever_holds_the_folders(tmp_path: Path) -> None:
    files = folders(kind="PNG")
    turned = dict(reversed(files.items()))
    (tmp_path / "packed").mkdir()
    sources = [
        write_folder(tmp_path / "flowers", files),
        write_folder(tmp_path / "turned", turned),
        write_zip(tmp_path / "top.zip", turned, "deep/inside/"),
        write_zip(tmp_path / "packed" / "any.zip", files).parent,
    ]
    made = [prepare("folder", source, tmp_path / f"{i}.h5") for i, source in enumerate(sources)]
    assert len({one.sha256 for one in made}) == 1
    assert [one.dataset for one in made] == ["flowers", "turned", "top", "packed"]
    other = prepare("folder", sources[0], tmp_path / "other.h5", split_seed=1)
    assert class_names(other.store) != class_names(made[0].store)


def test_a_division_can_be_asked_for(tmp_path: Path) -> None:
    made = made_from(folders(), tmp_path, class_split="6,5,3", image_size=32, store_name="roses")
    assert [own["classes"] for own in made.splits.values()] == [6, 5, 3]
    assert (made.dataset, made.image_size) == ("roses", 32)
    assert any(note.startswith("1 class is in no split: kind") for note in made.notes)
    assert any(note.startswith("test has only 3 classes") for note in made.notes)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "TEST")])
def test_folders_for_the_splits_are_kept(tmp_path: Path, names: tuple[str, str, str]) -> None:
    parts = {"train": CLASSES[:5], "val": CLASSES[5:7], "test": CLASSES[7:]}
    files = {
        f"{name}/{file}": data
        for name, own in zip(names, parts.values(), strict=True)
        for file, data in folders(own).items()
    }
    strays = {f"{names[0]}/stray.jpg": coloured(1), "others/x/1.jpg": coloured(2), "cover.jpg": coloured(3)}
    made = made_from(files | strays, tmp_path)
    assert class_names(made.store) == parts
    assert made.form == "train, val and test folders of class folders (folder)"
    assert any(note.startswith("3 images are in no class folder: cover.jpg") for note in made.notes)
    with pytest.raises(DataError, match="leave out --class-split"):
        made_from(files, tmp_path, class_split="5,2,8", force=True)


def test_a_class_may_be_called_train_or_have_a_folder_of_its_own(tmp_path: Path) -> None:
    names = ["train", "car", "birds/owl", "birds/duck", "birds/duck/young"]
    made = made_from(folders(names), tmp_path)
    assert sorted(chain(*class_names(made.store).values())) == sorted(names)


def test_one_split_alone_is_divided(tmp_path: Path) -> None:
    files = {f"train/{name}": data for name, data in folders().items()}
    assert sorted(chain(*class_names(made_from(files, tmp_path).store).values())) == CLASSES


def test_gray_images_have_three_channels_unless_asked(tmp_path: Path) -> None:
    files = {f"{name}/{i}.png": png(20, "L", i) for name in CLASSES[:3] for i in range(2)}
    with Store.open(made_from(files, tmp_path, image_size=20).store) as store:
        colour = store.split("train").read()
    with Store.open(made_from(files, tmp_path, image_size=20, grayscale=True, force=True).store) as store:
        gray = store.split("train").read()
    assert gray.shape == (2, 20, 20, 1)
    np.testing.assert_array_equal(colour, np.repeat(gray, 3, axis=3))
    np.testing.assert_array_equal(gray[1, ..., 0], Image.open(io.BytesIO(png(20, "L", 1))))


def test_empty_folders_are_named(tmp_path: Path) -> None:
    """Somebody may believe that they are classes."""
    (tmp_path / "flowers" / "void").mkdir(parents=True)
    (tmp_path / "flowers" / ".git" / "void").mkdir(parents=True)
    assert made_from(folders(), tmp_path).notes[0] == "1 folder is empty: void."


def test_broken_files_are_left_out_and_named(tmp_path: Path) -> None:
    files = folders(images=20)
    broken = {
        "kind03/100.jpg": coloured(1)[:100],
        "kind05/a.png": huge_png(9_000),
        "kind05/b.gif": b"",
        "kind07/text.jpg": b"<html>not found</html>",
    }
    litter = {"kind01/Thumbs.db": b"x", "kind01/.DS_Store": b"x", "desktop.ini": b"x", ".git/x/1.jpg": b"x"}
    others = {"notes.txt": b"x", "kind02/x.heic": b"x", "kind02/y.heic": b"x", "kind03/LICENSE": b"x"}
    made = made_from(files | broken | litter | others, tmp_path)
    assert sum(own["images"] for own in made.splits.values()) == 300
    verify_store(made.store)
    assert made.notes[:2] == [
        "4 files that are not images are ignored (.heic, .txt, without a suffix); photos in HEIC are "
        "not read: convert them to JPEG.",
        "4 of 304 images cannot be used and are left out.",
    ]
    for name, note in zip(broken, made.notes[2:6], strict=True):
        why = (
            "cannot be used, as it has 9,000 × 9,000 pixels, more than" if "a.png" in name else "is broken ("
        )
        assert f"{name} {why}" in note
    assert "fewer than 16" not in " ".join(made.notes)


def test_many_broken_files_are_an_error(tmp_path: Path) -> None:
    files = folders(images=20)
    files |= {f"kind01/{number}.jpg": b"" for number in range(100, 120)}
    with pytest.raises(
        DataError, match=r"more than 5% of the 320 images cannot be used, among them kind01/1"
    ) as error:
        made_from(files, tmp_path)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["flowers"]


def test_a_damaged_member_of_an_archive_is_a_broken_file(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "flowers.zip", folders(kind="PNG"))
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF  # inside of the first image
    archive.write_bytes(data)
    made = prepare("folder", archive, tmp_path / "out.h5")
    assert sum(own["images"] for own in made.splits.values()) == 44
    assert any("kind00/0.png" in note for note in made.notes)


FAULTS: dict[str, tuple[dict[str, bytes], dict[str, object], str]] = {
    "photos in HEIC": ({"a/1.HEIC": b"x", "b/2.heif": b"x"}, {}, "HEIC are not read: convert them to JPEG."),
    "nothing": ({"readme.txt": b"x"}, {}, "no folders of images"),
    "no folders": ({"1.jpg": coloured(1), "2.jpg": coloured(2)}, {}, "no folders of images"),
    "two classes": (folders(CLASSES[:2]), {}, "has 2 classes, but train, val and test"),
    "no val": (folders(["train/a", "train/b", "test/c"]), {}, "no class folders in val"),
    "leak": (folders(["train/a", "train/b", "val/b", "test/c"]), {}, "'b' in two splits"),
    "fit": (folders(), {"fit": "squash"}, "--fit must be crop or pad, not 'squash'"),
    "split": (folders(), {"class_split": "1,2"}, "--class-split '1,2'"),
    "name": (folders(), {"store_name": "../up"}, "--name '../up' cannot be the name"),
    "taken": (folders(), {"store_name": "CIFAR_FS"}, "Another dataset is called CIFAR_FS"),
    "all of a class": (
        folders() | {"kind99/1.jpg": b"x"},
        {},
        "no image of the class 'kind99' can be used; .*kind99/1.jpg is broken",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_prepared_is_said_in_one_sentence(tmp_path: Path, fault: str) -> None:
    files, options, sentence = FAULTS[fault]
    with pytest.raises(DataError, match=sentence) as error:
        made_from(files, tmp_path, **options)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["flowers"]


def test_options_of_a_folder_are_refused_elsewhere(tmp_path: Path) -> None:
    for option in ({"class_split": "1,1,1"}, {"fit": "pad"}, {"store_name": "x"}, {"grayscale": True}):
        with pytest.raises(DataError, match=r"--[a-z-]+ is only for `pamela prepare folder`"):
            prepare("glyphs", None, tmp_path / "x.h5", **option)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="needs the images"):
        prepare("folder", None, tmp_path / "x.h5")


def test_a_class_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    files = write_folder(tmp_path / "flowers", folders())
    try:
        os.rename(files / "kind00", os.fsencode(files / "kind") + b"\xff")  # noqa: PTH104  bytes
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    with pytest.raises(DataError, match="is not valid UTF-8; rename it"):
        prepare("folder", files, tmp_path / "out.h5")


def test_stores_are_called_as_their_folders(tmp_path: Path) -> None:
    for path, expected in {
        "flowers": "flowers",
        "my flowers (2)": "my-flowers-2",
        "blümchen.v2": "blümchen.v2",
        "a.tar.gz": "a",
        "b.ZIP": "b",
    }.items():
        assert stored_name("folder", tmp_path / path) == expected
    assert stored_name("folder", tmp_path, "x") == "x"
    assert stored_name("CIFAR_FS") == "cifar-fs"
    assert name_of(Path()) == Path.cwd().name


part = st.sampled_from(["train", "val", "test", "a", "b", "c", "x.jpg", "y.png", "note.txt"])


@given(st.lists(st.lists(part, min_size=1, max_size=4).map("/".join), max_size=12, unique=True))
def test_any_layout_is_understood_or_refused(names: list[str]) -> None:
    try:
        found = find_own_images(Listed(names), "crop", 3)  # type: ignore[arg-type]
    except DataError as error:
        assert "\n" not in str(error)
        return
    used = [name for files in found.files.values() for name in files]
    assert len(used) == len(set(used))
    images = [name for name in names if name.endswith((".jpg", ".png"))]
    stray = [note for note in found.passed_over if "no class folder" in note]
    number = int(stray[0].split()[0]) if stray else 0
    assert set(used) <= set(images) and len(used) + number == len(images)
    assert all(label and files for label, files in found.files.items())
    if found.splits is not None:
        assert sorted(chain(*found.splits.values())) == sorted(found.files)

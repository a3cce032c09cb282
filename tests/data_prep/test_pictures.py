"""Pictures outside stores: found, and made like the images that `prepare` has packed."""

import errno
import io
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from data_prep_support import huge_png, png, write_folder, write_small_store, write_zip
from PIL import Image

from data_prep import DataError, Store, prepare
from data_prep.archives import MAX_MEMBER_BYTES
from data_prep.images import decode
from data_prep.pictures import Query, find_queries, read_queries, read_support
from data_prep.preparation import Preparation
from data_prep.resizing import resized
from data_prep.sources import cifar100, find_source, imagenet, omniglot


def fail(error: DataError) -> None:
    raise error


def photo(seed: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    rng = np.random.default_rng(seed)
    width, height = rng.integers(20, 90, 2)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    image = Image.fromarray(rng.integers(0, 256, (height, width, *channels), np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def photos(classes: int = 6) -> dict[str, bytes]:
    kinds = [("PNG", "RGB"), ("JPEG", "RGB"), ("PNG", "RGBA"), ("PNG", "L")]
    return {
        f"kind{c}/{i}.{kind.lower()}": photo(10 * c + i, kind, mode)
        for c in range(classes)
        for i, (kind, mode) in enumerate(kinds)
    }


# Made alike ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"fit": "pad"}, {"grayscale": True}, {"image_size": 28}])
def test_pictures_become_what_prepare_has_made_of_them(tmp_path: Path, options: dict[str, object]) -> None:
    source = write_folder(tmp_path / "photos", photos())
    made = prepare("folder", source, tmp_path / "out.h5", class_split="2,2,2", **options)  # type: ignore[arg-type]
    with Store.open(made.store) as store:
        how = Preparation.of(store)
        assert (how.fit, how.inverted) == (options.get("fit", "crop"), False)
        for split in map(store.split, store.splits()):
            paths = [str(path) for name in split.class_names for path in sorted((source / name).iterdir())]
            queries = [Query(path) for path in paths]
            found = np.concatenate([image for _, image in read_queries(queries, how, fail)])
            assert np.array_equal(found, split.read())


def drawing(side: int) -> bytes:
    page = Image.new("1", (side, side), 1)
    page.paste(0, (side // 5, side // 4, side // 3, side - 9))
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("size", [20, 28, 84])
def test_drawings_of_omniglot_are_inverted(size: int) -> None:
    own = replace(omniglot._DECODING, size=size)
    source = find_source("omniglot")
    how = Preparation(size, source.channels, source.fit, source.inverted)
    data = drawing(105)
    assert np.array_equal(decode(data, "a.png", how.decoding), decode(data, "a.png", own))
    assert how.inverted and find_source("glyphs").inverted


def test_photographs_of_the_known_datasets() -> None:
    cases = [
        ("cifar-fs", cifar100._DECODING, png(32)),
        ("miniimagenet", imagenet.PHOTOGRAPHS, photo(1, "JPEG")),
        ("tieredimagenet", imagenet.PHOTOGRAPHS, photo(2, "JPEG")),
    ]
    for name, own, data in cases:
        source = find_source(name)
        how = Preparation(source.image_size, source.channels, source.fit, source.inverted)
        assert np.array_equal(decode(data, "a", how.decoding), decode(data, "a", own)), name


@pytest.mark.parametrize(
    ("dataset", "fit", "inverted"), [("omniglot", "crop", True), ("mine", "crop", False)]
)
def test_stores_of_earlier_versions_tell_by_their_dataset(
    tmp_path: Path, dataset: str, fit: str, inverted: bool
) -> None:
    path = write_small_store(tmp_path / "old.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["fit"], file.attrs["inverted"]
        file.attrs["dataset"] = dataset
    with Store.open(path) as store:
        how = Preparation.of(store)
    assert (how.fit, how.inverted) == (fit, inverted)


@pytest.mark.parametrize(("name", "value"), [("fit", "fold"), ("inverted", "perhaps"), ("fit", "")])
def test_an_unknown_preparation(tmp_path: Path, name: str, value: str) -> None:
    path = write_small_store(tmp_path / "odd.h5")
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value
    with Store.open(path) as store, pytest.raises(DataError, match="prepare it again"):
        Preparation.of(store)


def test_images_of_another_size_and_colour() -> None:
    rng = np.random.default_rng(0)
    grey, colour = (
        rng.integers(0, 256, (2, 30, 30, 1), np.uint8),
        rng.integers(0, 256, (2, 30, 30, 3), np.uint8),
    )
    assert np.array_equal(resized(colour, 30, 3), colour)
    threefold = resized(grey, 30, 3)
    assert np.array_equal(threefold, np.repeat(grey, 3, axis=3))
    small = resized(colour, 15, 1)
    assert small.shape == (2, 15, 15, 1) and small.dtype == np.uint8
    brightness = colour @ np.array([0.299, 0.587, 0.114])
    assert small.mean() == pytest.approx(brightness.mean(), abs=1)


# Support ---------------------------------------------------------------------------------------------

HOW = Preparation(16, 3, "crop", False)


def test_classes_may_have_unequal_numbers(tmp_path: Path) -> None:
    files = {"b/1.png": png(), "b/2.png": png(), "a/x.png": png(), "a/notes.txt": b"hello"}
    for source in (write_folder(tmp_path / "few", files), write_zip(tmp_path / "few.zip", files)):
        found = read_support(source, HOW)
        assert found.classes == ["a", "b"]
        assert found.labels.tolist() == [0, 1, 1]
        assert found.images.shape == (3, 16, 16, 3)
        assert found.notes == ["1 file that is not an image is ignored (.txt)."]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.png": png()}, "has no folders of images"),
        ({"a/1.txt": b"x"}, "has no folders of images"),
        ({"a/1.png": png()}, "has images of only one class, 'a'"),
        ({"train/a/1.png": png(), "test/b/1.png": png(), "val/c/1.png": png()}, "pass one of them"),
        ({"a/1.png": png(), "b/1.png": b"no image"}, r"b/1\.png is broken"),
        ({"a/1.png": png(), "b/1.png": png()[:200]}, r"b/1\.png is broken"),
        ({"a/1.png": png(), "b/1.png": huge_png(60_000)}, r"b/1\.png cannot be used, as it has more"),
    ],
)
def test_support_sets_that_are_none(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_support(write_folder(tmp_path / "few", files), HOW)


def test_classes_are_told_before_a_picture_is_read(tmp_path: Path) -> None:
    def too_many(classes: list[str]) -> None:
        raise ValueError(f"too many: {classes}")

    files = {"a/1.png": png(), "b/1.png": b"no image"}
    with pytest.raises(ValueError, match=r"too many: \['a', 'b'\]"):
        read_support(write_folder(tmp_path / "few", files), HOW, too_many)


def test_support_that_is_a_file_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    with pytest.raises(DataError, match="is not a folder"):
        read_support(tmp_path / "a.png", HOW)
    with pytest.raises(DataError, match="no file or folder"):
        read_support(tmp_path / "nowhere", HOW)


# Queries ---------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = ["q/cat/1.png", "q/cat/2.png", "q/dog/1.png", "q/.hidden/1.png", "q/dog/Thumbs.db", "lone.png"]
    write_folder(tmp_path, {name: png() for name in names})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folders_called_as_classes_give_the_truth(here: Path) -> None:
    queries, notes = find_queries(["q"], ["cat", "dog"])
    assert [(query.path, query.truth) for query in queries] == [
        ("q/cat/1.png", "cat"), ("q/cat/2.png", "cat"), ("q/dog/1.png", "dog"),
    ]  # fmt: skip
    assert notes == []


def test_files_patterns_and_folders_each_once(here: Path) -> None:
    queries, _ = find_queries(["lone.png", "q/*/1.png", "q/**/*.png", "q"], ["cat"])
    paths = [query.path for query in queries]
    assert paths == ["lone.png", "q/cat/1.png", "q/dog/1.png", "q/cat/2.png"]
    assert len(set(paths)) == len(paths)


def test_some_folders_are_of_no_class(here: Path) -> None:
    queries, notes = find_queries(["q"], ["cat"])
    assert [query.truth for query in queries] == ["cat", "cat", None]
    assert len(notes) == 1 and "(1 of 3 images, among them q/dog/1.png)" in notes[0]
    assert find_queries(["q"], ["bird"])[1] == []


def test_nested_classes(here: Path) -> None:
    write_folder(here, {"n/pets/cat/1.png": png(), "n/wild/cat/1.png": png(), "n/wildcat/1.png": png()})
    queries, _ = find_queries(["n"], ["cat", "wild/cat"])
    assert [query.truth for query in queries] == ["cat", "wild/cat", None]


def test_capitals_matter_only_between_classes_that_they_tell_apart(here: Path) -> None:
    write_folder(here, {"n/Cat/1.png": png(), "n/Dog/1.png": png(), "n/DOG/1.png": png()})
    queries, _ = find_queries(["n"], ["cat", "dog", "Dog"])
    truths = {query.path: query.truth for query in queries}
    assert truths == {"n/Cat/1.png": "cat", "n/Dog/1.png": "Dog", "n/DOG/1.png": None}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.png", "no file or folder"),
        ("*.jpg", "nor does anything match"),
        ("empty", "contains no images"),
    ],
)
def test_queries_that_are_not_there(here: Path, given: str, message: str) -> None:
    (here / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        find_queries([given], ["cat"])


@pytest.mark.parametrize("data", [b"", b"text", png()[:100], huge_png(60_000)])
def test_a_query_that_is_no_image(here: Path, data: bytes) -> None:
    (here / "odd.png").write_bytes(data)
    queries, broken = [Query("odd.png"), Query("lone.png"), Query("odd.png"), Query("lone.png")], []
    read = list(read_queries(queries, HOW, broken.append))
    assert [query for query, _ in read] == [queries[1], queries[3]]
    assert len(broken) == 2
    assert all(
        re.match(r"odd\.png (is broken \(|cannot be used, as it has more)", str(error)) for error in broken
    )


def test_a_query_that_the_machine_cannot_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(DataError, match=r"^lone\.png cannot be read \(Input/output error\)"):
        list(read_queries([Query("lone.png")], HOW, fail))


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    for text in ("gone.png", "*.png"):
        with pytest.raises(DataError, match="what matches it is neither"):
            find_queries([str(tmp_path / text)], ["a"])


def test_a_query_that_is_larger_than_any_image_is_not_read(here: Path) -> None:
    with (here / "odd.png").open("wb") as file:
        file.truncate(MAX_MEMBER_BYTES + 1)
    broken: list[DataError] = []
    read = list(read_queries([Query("odd.png"), Query("lone.png")], HOW, broken.append))
    assert [query.path for query, _ in read] == ["lone.png"]
    assert [str(error).split(",")[0] for error in broken] == ["odd.png has 67"]

"""Stores that nobody wrote with this program: refused before they hang, fill the memory or lead elsewhere."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from data_prep_support import content, origin, random_images
from peak_memory import MIB, growth_below

from data_prep import DataError, Store, verify_store
from data_prep.listing import prepared_stores
from data_prep.store import SplitContent, parts, write_store

Change = Callable[[Any, Path], None]
TEXT = h5py.string_dtype()


def replaced(name: str, make: Callable[[Any, str, Path], object]) -> Change:
    """Return what puts another part in the place of one."""

    def change(file: Any, path: Path) -> None:
        group, _, last = name.rpartition("/")
        del file[name]
        made = make(file[group] if group else file, last, path)
        if made is not None:
            file[name] = made

    return change


def promised(shape: tuple[int, ...], kind: Any, chunk: int = 1, **more: Any) -> Callable[..., None]:
    """Return what makes a dataset of which nothing is written."""

    def make(group: Any, name: str, _: Path) -> None:
        group.create_dataset(name, shape, kind, chunks=(chunk, *shape[1:]), **more)

    return make


def virtual(group: Any, name: str, path: Path) -> None:
    layout = h5py.VirtualLayout((132, 8, 8, 1), np.uint8)
    layout[:] = h5py.VirtualSource(str(path.parent / "other.h5"), "train/images", shape=(132, 8, 8, 1))
    group.create_virtual_dataset(name, layout)


def elsewhere(file: str) -> Callable[..., None]:
    def make(group: Any, name: str, _: Path) -> None:
        size = (1 << 36) * 64 if file == "/dev/zero" else 132 * 64
        group.create_dataset(name, (size // 64, 8, 8, 1), np.uint8, external=[(file, 0, size)])

    return make


def pipe(_: Any, name: str, path: Path) -> h5py.ExternalLink:
    os.mkfifo(path.parent / "pipe")
    return h5py.ExternalLink(str(path.parent / "pipe"), name)


def other(_: Any, name: str, path: Path) -> h5py.ExternalLink:
    return h5py.ExternalLink(str(path.parent / "other.h5"), name)


def wide(file: Any, _: Path) -> None:
    for name, tasks in list(file["episodes/train"].items()):
        values = tasks[()].astype(np.int64) + (1 << 32)
        del file[f"episodes/train/{name}"]
        file[f"episodes/train/{name}"] = values


def attribute(name: str, value: Any, **more: Any) -> Change:
    def change(file: Any, _: Path) -> None:
        del file.attrs[name]
        file.attrs.create(name, value, **more)

    return change


def long_names(file: Any, _: Path) -> None:
    del file["train/class_names"]
    file.create_dataset("train/class_names", data=["x" * 60_000] * 6, dtype=TEXT)


MANY = 1 << 40
ATTACKS: dict[str, tuple[Change, str]] = {
    "offsets": (
        replaced("train/class_offsets", promised((MANY,), np.int64, 1 << 16, compression="gzip")),
        "is compressed or in another file",
    ),
    "plain offsets": (
        replaced("train/class_offsets", promised((MANY,), np.int64, 1 << 16)),
        "class_offsets is incomplete",
    ),
    "names": (
        replaced("train/class_names", promised((MANY,), TEXT, 1 << 16)),
        "class_names is incomplete",
    ),
    "long names": (replaced("train/class_names", promised((6,), "S100000000")), "chunks of more than 64 MiB"),
    "longer names": (long_names, "not short strings"),
    "numbers as names": (replaced("train/class_names", lambda *_: np.arange(6)), "not short strings"),
    "packed images": (
        replaced("train/images", promised((MANY, 84, 84, 3), np.uint8, compression="gzip")),
        "train/images is compressed",
    ),
    "images": (replaced("train/images", promised((1 << 60, 16, 16, 3), np.uint8)), "images is incomplete"),
    "chunks": (
        replaced("train/images", promised((200_000, 84, 84, 3), np.uint8, 190_000)),
        "train/images has chunks of more than 64 MiB",
    ),
    "virtual": (replaced("train/images", virtual), "train/images is compressed or in another file"),
    "/dev/zero": (replaced("train/images", elsewhere("/dev/zero")), "is compressed or in another file"),
    "/etc/passwd": (replaced("train/images", elsewhere("/etc/passwd")), "is compressed or in another file"),
    "link": (replaced("train", other), "train is a link"),
    "link of images": (replaced("train/images", other), "train/images is a link"),
    "soft link": (replaced("val/images", lambda *_: h5py.SoftLink("/train/images")), "val/images is a link"),
    "pipe": (replaced("train", pipe), "train is a link"),
    "pipe of tasks": (replaced("episodes", pipe), "episodes is a link"),
    "tasks": (
        replaced("episodes/train/5way-1shot", promised((MANY,), np.int32, 1 << 16)),
        "episodes/train/5way-1shot is incomplete",
    ),
    "wide tasks": (wide, r"is not int32 \(600, 5, 16\), but int64"),
    "form": (attribute("form", b"\xff\xfe", dtype=TEXT), "the attribute 'form' is not valid UTF-8"),
    "list of forms": (attribute("form", ["a", "b"], dtype=TEXT), "the attribute 'form' is not text"),
    "format": (attribute("format", np.zeros(1000)), "the attribute 'format' is not text"),
    "mean": (attribute("mean", np.zeros(4000)), "the attribute 'mean' is not a list of up to three"),
    "means": (attribute("mean", [1], dtype=np.int8), "the attribute 'mean' is not a list of up to three"),
    "split as dataset": (replaced("val", lambda *_: np.zeros(3)), "val is missing"),
    "images as group": (
        replaced("val/images", lambda group, *_: group.create_group("x")),
        "images is missing",
    ),
}


@pytest.mark.timeout(20)
@pytest.mark.skipif(os.name != "posix", reason="pipes with names")
@pytest.mark.parametrize("kind", ATTACKS)
def test_hostile_stores_are_refused(store: Path, kind: str) -> None:
    change, sentence = ATTACKS[kind]
    (store.parent / "other.h5").write_bytes(store.read_bytes())
    with h5py.File(store, "r+") as file:
        change(file, store)
    with growth_below(100 * MIB), pytest.raises(DataError, match=sentence) as error:
        verify_store(store)
    assert str(store) in str(error.value) and "\n" not in str(error.value)
    found = {entry.path: entry for entry in prepared_stores(store.parent)}
    assert found[store.parent / "other.h5"].summary
    assert found[store].fault or "tasks" in kind  # these are read when they are asked for


def test_an_honest_store_is_read(store: Path) -> None:
    with Store.open(store) as opened:
        split = opened.split("train")
        assert split.read().shape == (132, 8, 8, 1) and len(split.class_names) == 6
        assert split.episodes(5, 1) is not None and split.episodes(20, 1) is None
        assert opened.attributes["citation"] == "nobody"


@pytest.mark.parametrize("name", ["", "a\0b", "n" * 4097, "\udcff"])
def test_names_that_no_store_can_have_are_not_written(tmp_path: Path, name: str) -> None:
    good = content(random_images([20, 20]))
    bad = SplitContent([name, *good.class_names[1:]], good.blocks, good.images)
    with pytest.raises(DataError, match=r"val has a class called .*; give it a name"):
        written(tmp_path, bad)


def test_a_split_without_classes_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="val has no classes"):
        written(tmp_path, SplitContent([], iter([]), 0))


def written(folder: Path, val: SplitContent) -> None:
    splits = {"train": content(random_images([20])), "val": val, "test": content(random_images([20]))}
    try:
        write_store(folder / "s.h5", origin(), splits, image_size=8, channels=1)
    finally:
        assert not list(folder.iterdir())


def _names(*wanted: str) -> Change:
    return replaced("train/class_names", lambda *_: np.array([*wanted, "c", "d", "e", "f"], TEXT))


def _attribute(name: str, value: float) -> Change:
    def change(file: Any, _: Path) -> None:
        file.attrs[name] = np.array([value])

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_names("a", "a"), "train/class_names do not give each class its own name"),
        (_names("a", ""), "train/class_names do not give each class its own name"),
        (_attribute("mean", np.nan), "the attribute 'mean' has impossible values"),
        (_attribute("std", np.inf), "the attribute 'std' has impossible values"),
        (_attribute("std", -1.0), "the attribute 'std' has impossible values"),
    ],
)
def test_what_no_writer_writes(store: Path, change: Change, sentence: str) -> None:
    with h5py.File(store, "r+") as file:
        change(file, store)
    with pytest.raises(DataError, match=sentence):
        Store.open(store)


@pytest.mark.parametrize("names", [["a", "a"], ["b", "a"]])
def test_classes_have_different_names_in_order(tmp_path: Path, names: list[str]) -> None:
    images = random_images([20, 20])
    splits = {name: content(images) for name in ("train", "val", "test")}
    splits["val"] = SplitContent(names, iter(enumerate(images)), 40)
    with pytest.raises(DataError, match="val has the class 'a' after"):
        write_store(tmp_path / "s.h5", origin(), splits, image_size=8, channels=1)


def test_names_take_no_more_than_so_much_together(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_MAX_NAMES_BYTES", 6 * len("class00"))
    Store.open(store).close()
    monkeypatch.setattr(parts, "_MAX_NAMES_BYTES", 6 * len("class00") - 1)
    with pytest.raises(DataError, match="train/class_names are not short strings"):
        Store.open(store)

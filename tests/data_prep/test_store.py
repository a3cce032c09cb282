"""The episode store: what is written is read, and what is damaged is refused."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from data_prep_support import content, origin, random_images, write_small_store
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import DataError, Store, verify_store
from data_prep.store import SPLITS, SplitContent, write_store


@settings(max_examples=15)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=9),
    size=st.integers(1, 12),
    channels=st.sampled_from([1, 3]),
    block=st.integers(1, 50),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], size: int, channels: int, block: int
) -> None:
    classes = random_images(counts, size, channels)
    out = tmp_path_factory.mktemp("round") / "store.h5"
    splits = {name: content(classes, block) for name in SPLITS}
    made = write_store(out, origin(), splits, image_size=size, channels=channels)
    assert verify_store(out) == made
    with Store.open(out) as store:
        assert (store.dataset, store.image_size, store.channels) == ("made-up", size, channels)
        pixels = np.concatenate(classes)
        np.testing.assert_allclose(store.mean, (pixels / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
        np.testing.assert_allclose(store.std, (pixels / 255).std(axis=(0, 1, 2)), rtol=1e-9, atol=1e-12)
        for split in map(store.split, store.splits()):
            np.testing.assert_array_equal(split.read(), pixels)
            np.testing.assert_array_equal(split.class_offsets, np.cumsum([0, *counts]))
            assert split.class_names == [f"class{label:02}" for label in range(len(counts))]


def test_images_of_a_class_must_come_together(tmp_path: Path) -> None:
    """Classes are told by where they begin: images out of order would be of another class."""
    classes = random_images([3, 3])
    blocks = [(0, classes[0]), (1, classes[1]), (0, classes[0])]
    splits = {
        split: SplitContent(["a", "b"], blocks, 9) if split == "train" else content(classes)
        for split in SPLITS
    }
    with pytest.raises(ValueError, match=r"train: block .* of class 0 after class 1"):
        write_store(tmp_path / "s.h5", origin(), splits, image_size=8, channels=1)
    assert not list(tmp_path.iterdir())


def test_checksum_is_of_content_alone(tmp_path: Path) -> None:
    one = write_small_store(tmp_path / "one.h5", block=3)
    other = write_small_store(tmp_path / "other.h5", block=100)
    different = write_small_store(tmp_path / "different.h5", counts=(20, 16, 25, 20, 31, 21))
    assert verify_store(one).sha256 == verify_store(other).sha256 != verify_store(different).sha256


def test_checksum_is_the_documented_one(store: Path) -> None:
    """docs/datasets.md in code, with nothing of data_prep."""
    lines = []
    with h5py.File(store) as file:

        def add(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                if item.dtype.kind == "O":
                    kind, data = "utf-8", b"".join(text + b"\0" for text in item[()])
                else:
                    kind, data = item.dtype.name, item[()].tobytes()
                shape = "x".join(map(str, item.shape))
                lines.append(f"{name} {kind} {shape} {hashlib.sha256(data).hexdigest()}\n")

        file.visititems(add)
        assert file.attrs["sha256"] == hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    assert len(lines) == 3 * 3 + 3 * 2  # 5-way tasks only: there are six classes


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _edit(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return apply


def _replace(file: h5py.File, name: str, data: object) -> None:
    del file[name]
    file[name] = data


DAMAGES = {
    "cut": (_cut, "cut short"),
    "empty": (_empty, "not an HDF5 file|cut short"),
    "no store": (_edit(lambda f: f.attrs.__delitem__("format")), "not an episode store"),
    "version": (_edit(lambda f: f.attrs.modify("format_version", 2)), "of version 2"),
    "attribute": (_edit(lambda f: f.attrs.__delitem__("terms")), "lacks the attribute 'terms'"),
    "no mean": (_edit(lambda f: f.attrs.__delitem__("mean")), "damaged"),
    "short mean": (_edit(lambda f: f.attrs.create("mean", [0.5, 0.5])), "mean and std"),
    "no split": (_edit(lambda f: f.__delitem__("val")), "val is missing"),
    "no images": (_edit(lambda f: f.__delitem__("test/images")), "test/images is missing"),
    "no names": (_edit(lambda f: f.__delitem__("test/class_names")), "test/class_names is missing"),
    "images type": (
        _edit(lambda f: _replace(f, "test/images", np.zeros((132, 8, 8, 1), np.float32))),
        "float32, not uint8",
    ),
    "images shape": (
        _edit(lambda f: _replace(f, "test/images", np.zeros((132, 8, 9, 1), np.uint8))),
        "has shape",
    ),
    "image size": (
        _edit(lambda f: _replace(f, "test/images", np.zeros((132, 9, 9, 1), np.uint8))),
        "images of test",
    ),
    "promised images": (
        _edit(lambda f: f["test/images"].resize(10**12, axis=0)),
        "is incomplete",
    ),
    "offsets end": (
        _edit(lambda f: _replace(f, "train/class_offsets", np.array([0, 20, 36, 61, 81, 112, 131]))),
        "does not fit its images",
    ),
    "offsets order": (
        _edit(lambda f: _replace(f, "train/class_offsets", np.array([0, 36, 20, 61, 81, 112, 132]))),
        "does not fit its images",
    ),
    "offsets type": (
        _edit(lambda f: _replace(f, "train/class_offsets", np.array([0.0, 132.0]))),
        "is not int64",
    ),
    "names count": (
        _edit(lambda f: _replace(f, "train/class_names", ["a", "b"])),
        "class_names has shape",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_open_refuses_a_damaged_store(store: Path, damage: str) -> None:
    apply, sentence = DAMAGES[damage]
    apply(store)
    with pytest.raises(DataError, match=sentence) as error:
        Store.open(store)
    assert str(store) in str(error.value) and "\n" not in str(error.value)


def test_open_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no episode store"):
        Store.open(tmp_path / "none.h5")
    with pytest.raises(DataError, match="no episode store"):
        Store.open(tmp_path)


def _flip_task(file: h5py.File, row: tuple[int, int, int], value: int) -> None:
    file["episodes/val/5way-1shot"][row] = value


VERIFY_DAMAGES = {
    "pixel": (
        lambda f: f["val/images"].__setitem__((3, 2, 2, 0), f["val/images"][3, 2, 2, 0] ^ 1),
        "checksum",
    ),
    "name": (lambda f: f["val/class_names"].__setitem__(0, "other"), "does not match its checksum"),
    "mean": (lambda f: f.attrs.__setitem__("mean", [0.1]), "mean or std"),
    "no tasks": (lambda f: f.__delitem__("episodes/val/5way-1shot"), "is missing"),
    "task range": (lambda f: _flip_task(f, (0, 0, 0), 10_000), "does not have"),
    "task negative": (lambda f: _flip_task(f, (0, 0, 0), -1), "does not have"),
    "task class": (
        lambda f: _flip_task(f, (0, 0, 0), int(f["episodes/val/5way-1shot"][0, 1, 0])),
        "more than one class",
    ),
    "task repeat": (
        lambda f: _flip_task(f, (0, 0, 0), int(f["episodes/val/5way-1shot"][0, 0, 1])),
        "same image twice",
    ),
    "row repeat": (
        lambda f: f["episodes/val/5way-1shot"].__setitem__((0, 0), f["episodes/val/5way-1shot"][0, 1]),
        "same class twice",
    ),
    "task order": (
        lambda f: f["episodes/val/5way-1shot"].__setitem__(0, f["episodes/val/5way-1shot"][0][::-1]),
        "does not match its checksum",
    ),
}


@pytest.mark.parametrize("damage", VERIFY_DAMAGES)
def test_verify_finds_what_open_does_not(store: Path, damage: str) -> None:
    change, sentence = VERIFY_DAMAGES[damage]
    _edit(change)(store)
    Store.open(store).close()
    with pytest.raises(DataError, match=sentence):
        verify_store(store)


@pytest.mark.parametrize("damage", ["pixel", "task range", "task class", "task repeat", "row repeat"])
def test_no_damage_gets_into_a_task(store: Path, damage: str) -> None:
    """What is loaded is checked as it is loaded: a run never trains or tests on something else."""
    edit, problem = VERIFY_DAMAGES[damage]
    with h5py.File(store, "r+") as file:
        edit(file)
    with Store.open(store) as opened, pytest.raises(DataError, match=problem):
        val = opened.split("val")
        val.episodes(5, 1)
        val.read()


# The same examples each time: on one damaged file in hundreds HDF5 never ends.
@settings(max_examples=60, derandomize=True)
@given(data=st.data())
def test_flipped_bytes_never_surprise(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A file with changed bytes verifies with the same checksum, or is refused in one sentence."""
    path = tmp_path_factory.getbasetemp() / "flip.h5"
    if not path.exists():
        write_small_store(path)
    original = path.read_bytes()
    expected = verify_store(path).sha256
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        # Half of the changes go to the start, where HDF5 keeps what a reader trusts.
        at = data.draw(st.one_of(st.integers(0, 4096), st.integers(0, len(original) - 1)))
        damaged[at] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        assert verify_store(path).sha256 == expected
    except DataError as error:
        assert "\n" not in str(error)
    finally:
        path.write_bytes(original)


def test_an_unknown_split_is_named(store: Path) -> None:
    with Store.open(store) as opened, pytest.raises(DataError, match="no split 'dev'"):
        opened.split("dev")


def test_a_class_without_images_is_refused(tmp_path: Path) -> None:
    classes = random_images([20, 0, 20])
    with pytest.raises(DataError, match="class01"):
        write_store(
            tmp_path / "s.h5", origin(), {n: content(classes) for n in SPLITS}, image_size=8, channels=1
        )
    assert not list(tmp_path.iterdir())

"""`prepare` on what people have: small data of the true structure, and the real files where they are."""

import hashlib
import io
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
import pytest
from data_prep_support import omniglot_files, png, shared_data, write_folder, write_zip
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_prep import DataError, Store, canonical_name, dataset_infos, prepare, verify_store
from data_prep.sources import cifar100, omniglot

CIFAR_CLASSES = [name for members in cifar100.superclasses().values() for name in members]
PER_CLASS = 3


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let CIFAR-100 and Omniglot have three and one images a class."""
    monkeypatch.setattr(cifar100, "IMAGES_PER_CLASS", PER_CLASS)
    monkeypatch.setattr(omniglot, "_DRAWINGS", 1)


def cifar_files(classes: Iterable[str] = CIFAR_CLASSES) -> dict[str, bytes]:
    return {
        f"{name}/{name}_{number}.png": png(32, seed=seed_of(name) + number)
        for name in classes
        for number in range(PER_CLASS)
    }


def seed_of(name: str) -> int:
    return int.from_bytes(name.encode()[:6])


@pytest.mark.usefixtures("few_images")
def test_cifar_is_found_by_content_and_every_form_is_the_same_store(tmp_path: Path) -> None:
    files = cifar_files()
    clutter = {"readme.txt": b"hello", "other/dogs/1.png": png(50), "data/apple.png": png(50)}
    (tmp_path / "zipped").mkdir()
    archive = write_zip(tmp_path / "zipped" / "no-such-name.bin", files | clutter, "some/where/")
    folder = write_folder(tmp_path / "unpacked" / "renamed", files | clutter)
    sources = [archive, archive.parent, folder, folder.parent]
    made = [prepare("cifar-fs", source, tmp_path / f"{i}.h5") for i, source in enumerate(sources)]
    assert len({one.sha256 for one in made}) == 1
    assert [one.form for one in made] == [
        f"class folders of PNG files ({kind})" for kind in ("zip", "folder of archives", "folder", "folder")
    ]
    assert {split: own["classes"] for split, own in made[0].splits.items()} == {
        "train": 64,
        "val": 16,
        "test": 20,
    }
    with Store.open(made[0].store) as store:
        for split in map(store.split, store.splits()):
            assert split.class_names == sorted(split.class_names)
            expected = [files[f"{n}/{n}_{i}.png"] for n in split.class_names for i in range(PER_CLASS)]
            pixels = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in expected])
            np.testing.assert_array_equal(split.read(), pixels)


@pytest.mark.usefixtures("few_images")
def test_fc100_splits_by_superclass(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "cifar.zip", cifar_files())
    made = prepare("FC100", source, tmp_path / "fc100.h5", workers=1)
    assert {split: own["classes"] for split, own in made.splits.items()} == {
        "train": 60,
        "val": 20,
        "test": 20,
    }
    assert made.notes and "fewer than 16 images" in made.notes[0]
    with Store.open(made.store) as store:
        groups = cifar100.superclasses()
        parts = [set(store.split(split).class_names) for split in store.splits()]
        assert all(sum(set(members) <= part for part in parts) == 1 for members in groups.values())


@pytest.mark.usefixtures("few_images")
@pytest.mark.parametrize("packed", [True, False])
def test_omniglot_takes_folders_zips_or_both_in_one(tmp_path: Path, packed: bool) -> None:
    source = tmp_path / "source"
    write_folder(source / "images_background", omniglot_files("background"))
    (source / "strokes.txt").write_text("")
    if packed:
        write_zip(source / "b.zip", omniglot_files("evaluation"), "images_evaluation/")
    else:
        write_folder(source / "deeper" / "evaluation", omniglot_files("evaluation"))
    made = prepare("omniglot", source, tmp_path / "omniglot.h5")
    assert {split: own["classes"] for split, own in made.splits.items()} == {
        "train": 1028,
        "val": 172,
        "test": 423,
    }
    with Store.open(made.store) as store:
        assert store.split("train").images.shape == (1028, 28, 28, 1)
        assert store.split("test").class_names[0] == "Gurmukhi/character42"
        assert store.split("val").read()[0, 0, 0, 0] == 0


@pytest.mark.usefixtures("few_images")
def test_what_is_wrong_with_a_source_is_said(tmp_path: Path) -> None:
    def fails(name: str, source: Path | None, sentence: str) -> None:
        with pytest.raises(DataError, match=sentence) as error:
            prepare(name, source, out, force=True)
        assert "\n" not in str(error.value)
        assert out.read_bytes() == b"precious" and list(out.parent.iterdir()) == [out]

    out = write_folder(tmp_path / "out", {"store.h5": b"precious"}) / "store.h5"
    fails("cifar-fs", tmp_path / "nothing", "no file or folder")
    fails("cifar-fs", write_folder(tmp_path / "other", {"a/1.png": png(32)}), "any known form")
    some = write_zip(tmp_path / "some.zip", cifar_files(CIFAR_CLASSES[:98]))
    fails("cifar-fs", some, "lacks 2 of the 100 classes.*tank, tractor")
    fewer = cifar_files()
    del fewer["bear/bear_1.png"]
    fails("cifar-fs", write_zip(tmp_path / "fewer.zip", fewer), "bear has 2 images, not 3")
    twice = write_folder(tmp_path / "twice" / "one", cifar_files())
    write_folder(twice.parent / "two", cifar_files())
    fails("cifar-fs", twice.parent, "more than once.*'one'.*'two'")
    broken = write_zip(tmp_path / "broken.zip", cifar_files() | {"whale/whale_1.png": png(32)[:99]})
    fails("cifar-fs", broken, r"whale/whale_1\.png is broken")
    large = write_zip(tmp_path / "large.zip", cifar_files() | {"whale/whale_1.png": png(64)})
    fails("fc100", large, r"whale/whale_1\.png has 64 × 64 pixels")
    fails(
        "omniglot",
        write_folder(tmp_path / "half", omniglot_files("evaluation")),
        "lacks .* of images_background",
    )
    fails("glyphs", some, "built in")


def test_a_store_that_is_there_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "store.h5"
    out.write_bytes(b"precious")
    with pytest.raises(DataError, match="already exists; use --force"):
        prepare("glyphs", None, out)
    with pytest.raises(DataError, match="is a folder"):
        prepare("glyphs", None, tmp_path, force=True)
    with pytest.raises(DataError, match="--image-size 4 is not between"):
        prepare("glyphs", None, out, image_size=4, force=True)
    assert out.read_bytes() == b"precious"


@given(
    st.sampled_from([(info.name, alias) for info in dataset_infos() for alias in (info.name, *info.aliases)])
)
def test_names_are_known_in_any_spelling(case: tuple[str, str]) -> None:
    name, alias = case
    for spelling in (alias, alias.upper(), alias.replace("-", "_"), alias.replace("-", "")):
        assert canonical_name(spelling) == name


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("cifar-sf", "did you mean cifar-fs"), ("xyzzy", "the known ones are miniimagenet, tiered")],
)
def test_unknown_names_are_answered(name: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        canonical_name(name)


def check_counts(name: str, store: Path, share: float = 1.0) -> None:
    """Make sure that a store has the classes of a dataset, and so many of its images."""
    info = next(info for info in dataset_infos() if info.name == name)
    found = {split: (own["classes"], own["images"]) for split, own in verify_store(store).splits.items()}
    assert found == {split: (classes, share * images) for split, (classes, images) in info.counts.items()}


def part_of(source: Path, per_class: int, out: Path) -> Path:
    """Write an archive with the first images of each class, and all that are no images; return its path."""
    taken: Counter[str] = Counter()
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(out, "w") as part:
        for name in whole.namelist():
            taken[folder := name.rpartition("/")[0]] += 1
            if taken[folder] <= per_class or not name.endswith(".png"):
                part.writestr(name, whole.read(name))
    return out


@pytest.mark.parametrize("per_class", [20, pytest.param(600, marks=pytest.mark.slow)])
def test_cifar_fs_from_the_real_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_class: int
) -> None:
    source = shared_data("cifar100.zip")
    if per_class < 600:
        monkeypatch.setattr(cifar100, "IMAGES_PER_CLASS", per_class)
        source = part_of(source, per_class, tmp_path / "part.zip")
    seen: list[tuple[str, int, int]] = []
    made = prepare("cifar-fs", source, tmp_path / "c.h5", progress=lambda *call: seen.append(call))
    check_counts("cifar-fs", made.store, per_class / 600)
    last = 20 * per_class
    assert seen[-1] == ("test", last, last) and {call[0] for call in seen} == {"train", "val", "test"}
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(source) as archive, Store.open(made.store) as store:
        files: dict[str, list[str]] = defaultdict(list)
        for name in sorted(name for name in archive.namelist() if name.endswith(".png")):
            files[name.split("/")[-2]].append(name)
        mean = store.split("train").read().mean((0, 1, 2)) / 255
        np.testing.assert_allclose(store.mean, mean, atol=1e-9)
        if per_class == 600:
            np.testing.assert_allclose(store.mean, (0.509, 0.492, 0.444), atol=0.001)
        for split in map(store.split, store.splits()):
            listed = archive.read(f"cifar100/splits/bertinetto/{split.name}.txt").decode().split()
            assert split.class_names == sorted(listed)
            images = split.read()
            for _ in range(200):
                label, number = rng.integers(len(split.class_names)), rng.integers(per_class)
                data = archive.read(files[split.class_names[label]][number])
                pixels = np.asarray(Image.open(io.BytesIO(data)))
                np.testing.assert_array_equal(images[label * per_class + number], pixels)


@pytest.mark.slow
def test_cifar_fs_from_the_real_folder_is_the_same(tmp_path: Path) -> None:
    source = shared_data("cifar100.zip")
    with zipfile.ZipFile(source) as archive:
        archive.extractall(tmp_path / "unpacked")
    zipped = prepare("cifar-fs", source, tmp_path / "zip.h5")
    folder = prepare("cifar-fs", tmp_path / "unpacked", tmp_path / "folder.h5")
    assert zipped.sha256 == folder.sha256
    with zipfile.ZipFile(source) as archive, Store.open(folder.store) as store:
        for split in map(store.split, store.splits()):
            names = sorted(n for n in archive.namelist() if n.endswith(".png"))
            own = [n for label in split.class_names for n in names if n.split("/")[-2] == label]
            for image, name in zip(split.read(), own, strict=True):
                np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(archive.read(name)))))


@pytest.mark.slow
def test_fc100_from_the_real_archive(tmp_path: Path) -> None:
    check_counts("fc100", prepare("fc100", shared_data("cifar100.zip"), tmp_path / "f.h5").store)


@pytest.mark.slow
def test_omniglot_from_the_real_archives(tmp_path: Path) -> None:
    source = shared_data("images_background.zip").parent
    made = prepare("omniglot", source, tmp_path / "o.h5")
    check_counts("omniglot", made.store)
    with Store.open(made.store) as store:
        images = store.split("train").read()
        assert images.shape[1:] == (28, 28, 1)
        assert images.max() == 255 and np.median(images) == 0
        assert len(np.unique(images)) > 100  # antialiased
    larger = prepare("omniglot", source, tmp_path / "o64.h5", image_size=64)
    with h5py.File(larger.store) as file:
        assert file["test/images"].shape == (8460, 64, 64, 1)


@pytest.mark.parametrize(
    ("split", "count", "checksum"),
    [
        ("train", 1028, "c350ea5778649d32"),
        ("val", 172, "d3f56052fbd17195"),
        ("test", 423, "bbbdc01c73fd2d34"),
    ],
)
def test_omniglots_list_is_that_of_vinyals(split: str, count: int, checksum: str) -> None:
    """The checksums are those of the published lists, of ``alphabet/character`` in alphabetical order."""
    names = sorted(name for _, own, name in omniglot._characters() if own == split)
    assert len(names) == count
    assert hashlib.sha256("\n".join(names).encode()).hexdigest().startswith(checksum)

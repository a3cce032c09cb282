"""Files that have nothing to do with a dataset lie beside it: nothing changes."""

import gzip
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from forms_support import pack_tar, pack_zip
from known_forms import AllPictures, changed, write

from data_prep import DataError, prepare

pytestmark = pytest.mark.usefixtures("small_datasets")

FORMS = [
    ("cifar-fs", "splits"),
    ("cifar-fs", "parquet"),
    ("tieredimagenet", "npz"),
    ("tieredimagenet", "png"),
]


def add_strangers(folder: Path) -> None:
    (folder / "notes.pkl").write_bytes(b"\x80\x02cos\nsystem\n.")
    (folder / "broken.npz").write_bytes(b"PK\3\4 and then nothing")
    (folder / "other.parquet").write_bytes(b"PAR1 and then nothing")
    (folder / "notes.csv.gz").write_bytes(gzip.compress(b"filename,class\n"))
    (folder / "broken.gz").write_bytes(b"\x1f\x8b and then nothing")
    with zipfile.ZipFile(folder / "other.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("notes.pkl", b"\x80\x02N.")


@pytest.mark.parametrize(("dataset", "form"), FORMS)
@pytest.mark.parametrize("packed", [False, True])
def test_strangers_do_no_harm(
    tmp_path: Path, written: Callable[[str, str], Path], dataset: str, form: str, packed: bool
) -> None:
    expected = prepare(dataset, written(dataset, form), tmp_path / "one.h5").sha256
    folder = tmp_path / "x"
    shutil.copytree(written(dataset, form), folder / "data")
    if packed:
        pack_zip(folder / "data", folder / "data.zip")
        shutil.rmtree(folder / "data")
    add_strangers(folder)
    assert prepare(dataset, folder, tmp_path / "two.h5").sha256 == expected


def test_members_that_cannot_be_read_do_no_harm(tmp_path: Path, written: Callable[[str, str], Path]) -> None:
    expected = prepare("cifar-fs", written("cifar-fs", "splits"), tmp_path / "one.h5").sha256
    path = pack_zip(written("cifar-fs", "splits"), tmp_path / "x.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("notes.txt", b"note")
    assert prepare("cifar-fs", path, tmp_path / "two.h5").sha256 == expected


@pytest.mark.parametrize("shape", [(-1, 1), (1, -1)])
def test_encoded_images_may_be_columns_or_rows(
    tmp_path: Path, pictures: AllPictures, shape: tuple[int, int]
) -> None:
    """cv2.imencode has returned either in the years when tieredImageNet was made."""
    source = write(tmp_path / "x", "tieredimagenet", "png", pictures)
    expected = prepare("tieredimagenet", source, tmp_path / "one.h5").sha256
    for split in ("train", "val", "test"):
        changed(f"{split}_images*", lambda v: v.__setitem__(slice(None), [a.reshape(shape) for a in v]))(
            source
        )  # type: ignore[arg-type, attr-defined]
    assert prepare("tieredimagenet", source, tmp_path / "two.h5").sha256 == expected


def test_an_archive_that_is_broken_is_named_where_nothing_else_is_found(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK\3\4 and then nothing")
    with pytest.raises(DataError, match=r"photos\.zip cannot be read"):
        prepare("cifar-fs", tmp_path, tmp_path / "s.h5")


@pytest.mark.parametrize("note", ["filename,class,remark\na,b,c\n", "filename,label\na,b,c\n", "x,y"])
def test_other_lists_do_no_harm(tmp_path: Path, written: Callable[[str, str], Path], note: str) -> None:
    folder = tmp_path / "x"
    shutil.copytree(written("miniimagenet", "lists"), folder)
    expected = prepare("miniimagenet", folder, tmp_path / "one.h5").sha256
    (folder / "notes").mkdir()
    (folder / "notes" / "a.csv").write_text(note)
    assert prepare("miniimagenet", folder, tmp_path / "two.h5").sha256 == expected


def test_a_list_of_a_split_that_cannot_be_read_is_named(
    tmp_path: Path, written: Callable[[str, str], Path]
) -> None:
    folder = tmp_path / "x"
    shutil.copytree(written("miniimagenet", "lists"), folder)
    path = next(folder.rglob("val.csv"))
    path.write_text(path.read_text() + "one,two,three\n")
    with pytest.raises(DataError, match=r"val\.csv has a row that does not have two columns"):
        prepare("miniimagenet", folder, tmp_path / "s.h5")


def test_what_is_missing_counts_for_more_than_a_stranger(
    tmp_path: Path, written: Callable[[str, str], Path]
) -> None:
    folder = tmp_path / "x"
    shutil.copytree(written("miniimagenet", "lists"), folder)
    add_strangers(folder)
    for name in ("val.csv", "test.csv"):
        next(folder.rglob(name)).unlink()
    with pytest.raises(DataError, match="does not have exactly one CSV file of images for val and test"):
        prepare("miniimagenet", folder, tmp_path / "s.h5")


def test_a_stranger_without_room_to_unpack_does_no_harm(
    tmp_path: Path, written: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written("cifar-fs", "folders")
    expected = prepare("cifar-fs", source, tmp_path / "one.h5").sha256
    folder = tmp_path / "x"
    folder.mkdir()
    backup = pack_tar(source, folder / "backup.tar.gz")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: Path("/dev/full").open("r+b", 0))  # noqa: SIM115
    for place in (backup, folder):
        with pytest.raises(DataError, match=r"backup\.tar\.gz could not be unpacked to the temporary folder"):
            prepare("cifar-fs", place, tmp_path / "two.h5")
    pack_zip(source, folder / "data.zip")
    assert prepare("cifar-fs", folder, tmp_path / "two.h5").sha256 == expected

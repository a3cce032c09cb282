"""What lies around users' images: sheets and stores of ours, archives, files that cannot be read."""

import os
import tarfile
import unicodedata
from itertools import chain
from pathlib import Path

import pytest
from data_prep_support import Listed, class_names, png, write_folder, write_small_store, write_tar, write_zip

from data_prep import DataError, Prepared, Store, prepare
from data_prep.contact_sheet import write_contact_sheet
from data_prep.forms.own_folders import composed
from data_prep.forms.own_images import image_files
from data_prep.pictures import find_queries, read_support
from data_prep.preparation import Preparation

posix = pytest.mark.skipif(os.name != "posix", reason="links and pipes")


def files(classes: str) -> dict[str, bytes]:
    return {f"{name}/{n}.png": png(8, seed=n) for name in classes for n in range(2)}


def classes_of(made: Prepared) -> list[str]:
    return sorted(chain(*class_names(made.store).values()))


def test_the_sheet_of_an_earlier_store_is_no_image(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "photos", files("abcdef") | {"c/x.h5": b"features", "c/x.png": png(8)})
    prepare("folder", source, source / "d" / "other.store")
    first = prepare("folder", source, source / "data" / "photos.h5")
    again = prepare("folder", source, source / "data" / "photos.h5", force=True)
    assert classes_of(first) == classes_of(again) == list("abcdef")
    assert first.sha256 == again.sha256
    assert again.notes[0].startswith("5 files that are not images are ignored (.h5, .png, .store)")


@posix
def test_a_pipe_in_the_place_of_the_sheet_is_not_waited_for(tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "s.h5")
    os.mkfifo(tmp_path / "s.png")
    with pytest.raises(DataError, match=r"s\.png exists and is not a contact sheet"):
        write_contact_sheet(store)


@posix
def test_what_cannot_be_read_among_queries_is_said(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "q", {"cat/1.png": png()})
    (folder / "dog").symlink_to("dog")
    queries, notes = find_queries([str(folder)], ["cat", "dog"])
    assert len(queries) == 1
    assert len(notes) == 1 and str(folder / "dog") in notes[0]


def test_archives_with_classes_beside_class_folders_are_not_guessed_at(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "p", files("x"))
    for name in "abc":
        write_zip(source / f"{name}.zip", {f"{n}.png": png(8, seed=n) for n in range(2)})
    with pytest.raises(DataError, match="class folders and archives beside each other"):
        prepare("folder", source, tmp_path / "p.h5")
    write_folder(source, files("yz"))
    made = prepare("folder", source, tmp_path / "more.h5")
    assert classes_of(made) == ["x", "y", "z"]
    assert made.notes[:2] == [
        "3 files that are not images are ignored (.zip).",
        "Archives beside class folders are not looked into: a.zip, b.zip, c.zip.",
    ]


def test_a_stranger_that_may_be_cut_short_is_not_what_is_wrong(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "p", {"notes.txt": b"notes"})
    data = write_tar(source / "stranger.tar", {"1.txt": b"text"}).read_bytes()
    (source / "stranger.tar").write_bytes(data[: 2 * tarfile.BLOCKSIZE])
    with pytest.raises(DataError, match="does not hold cifar-fs in any known form"):
        prepare("cifar-fs", source, tmp_path / "p.h5")


def test_names_that_differ_in_unicode_alone_keep_their_order() -> None:
    names = [f"a/{unicodedata.normalize(form, f'é{n}.png')}" for n in range(9) for form in ("NFC", "NFD")]
    found, _ = image_files(Listed(names))  # type: ignore[arg-type]
    assert found == sorted(sorted(names), key=composed)


def test_archives_that_hold_no_images_leave_too_few_classes(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "p", files("xy"))
    write_zip(source / "labels.zip", {"labels.txt": b"x y"})
    with pytest.raises(DataError, match="p has 2 classes, but train, val and test each need classes"):
        prepare("folder", source, tmp_path / "p.h5")


def test_a_tar_that_may_be_cut_short_is_said_among_others(tmp_path: Path) -> None:
    source = tmp_path / "p"
    source.mkdir()
    for name in "abc":
        write_tar(source / f"{name}.tar", {f"{n}.png": png(8, seed=n) for n in range(3)})
    data = (source / "a.tar").read_bytes()
    members = -(-len(data.rstrip(b"\0")) // tarfile.BLOCKSIZE)
    (source / "a.tar").write_bytes(data[: members * tarfile.BLOCKSIZE])
    notes = prepare("folder", source, tmp_path / "p.h5").notes
    assert [note for note in notes if "a.tar has no mark of its end: it may be cut short" in note]
    assert not [note for note in notes if "b.tar" in note]


def test_an_archive_beside_a_support_set_may_have_any_name(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "s", files("ab"))
    write_zip(source / "train.zip", files("ab"))
    with Store.open(write_small_store(tmp_path / "s.h5")) as store:
        how = Preparation.of(store)
    support = read_support(source, how)
    assert support.classes == ["a", "b"]
    assert "(.zip)" in support.notes[0]


def test_a_folder_may_have_another_name_of_the_command(tmp_path: Path) -> None:
    for name in ("Folder", "own-images"):
        assert prepare("folder", write_folder(tmp_path / name, files("abc")), tmp_path / f"{name}.h5")

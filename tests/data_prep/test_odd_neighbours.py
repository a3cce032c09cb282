"""Files of one's own that lie oddly: links to themselves, large strangers, images that are listed twice."""

from __future__ import annotations

import pickle
import unicodedata
from pathlib import Path

import pytest
from data_prep_support import png, write_folder, write_zip

from data_prep import DataError, Store, prepare, stored_name
from data_prep.archives import FolderTree
from data_prep.forms.listed import find_listed
from data_prep.forms.pickled import read_pickles
from data_prep.pickles import limits
from data_prep.pickles.calls import names_of


def test_a_link_to_itself_costs_nothing_but_itself(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/0.png").write_bytes(b"x")
    for place in (tmp_path, tmp_path / "a"):
        (place / "self").symlink_to("self")
    with FolderTree(tmp_path) as tree:
        assert tree.names() == ["a/0.png"]
        assert len(tree.unreadable) == 2 and "self" in str(tree.unreadable[0])


def test_a_refused_pickle_takes_nothing_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MAX_BYTES", 1000)
    (tmp_path / "captions.pkl").write_bytes(pickle.dumps({f"{i:0600}": i for i in range(2)}, 2))
    (tmp_path / "own.pkl").write_bytes(pickle.dumps({f"{i:0200}": i for i in range(2)}, 2))
    with FolderTree(tmp_path) as tree:
        assert list(read_pickles(tree).values) == ["own.pkl"]


def test_names_that_are_one_are_decoded_once() -> None:
    name = "é😀".encode() * 100
    names = names_of([name] * 1000 + ["text"])
    assert names is not None and names[0] == name.decode() and names[-1] == "text"
    assert len({id(each) for each in names}) == 2


def test_an_image_of_two_classes(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/n1.png").write_bytes(png())
    for split, label in (("train", "a"), ("val", "b"), ("test", "c")):
        (tmp_path / f"{split}.csv").write_text(f"filename,label\nn1.png,{label}\n")
    with FolderTree(tmp_path) as tree, pytest.raises(DataError, match="list one image in two classes"):
        find_listed(tree, {"train": ("a",), "val": ("b",), "test": ("c",)})


def test_a_folder_from_a_mac_is_called_as_elsewhere(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    assert names[0] != names[1]
    assert {stored_name("folder", tmp_path / name) for name in names} == {names[0]}
    assert {stored_name("folder", tmp_path, name) for name in names} == {names[0]}


@pytest.mark.parametrize("sound", [True, False])
def test_one_split_is_a_folder_and_the_others_are_archives(tmp_path: Path, sound: bool) -> None:
    source, out = tmp_path / "photos", tmp_path / "x.h5"
    labels = {"train": "abcde", "val": "fghij", "test": "klmno"}
    for split, names in labels.items():
        files = {f"{name}/{i}.png": png(16, seed=i) for name in names for i in range(3)}
        if split == "train":
            write_folder(source / split, files)
        else:
            write_zip(source / f"{split}.zip", files)
    if not sound:
        (source / "val.zip").write_bytes(b"PK no zip")
        with pytest.raises(DataError, match=r"val\.zip"):
            prepare("folder", source, out, image_size=16)
        return
    prepare("folder", source, out, image_size=16)
    with Store.open(out) as store:
        for split, names in labels.items():
            assert list(store.split(split).class_names) == list(names)

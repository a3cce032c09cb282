"""Pickles that refer to one thing many times, each of which would make it anew."""

import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from data_prep_support import png, write_folder
from peak_memory import MIB, growth_below
from pickle_support import read

from data_prep import DataError, prepare
from data_prep.archives import FolderTree
from data_prep.forms import pickled
from data_prep.pickles import limits, read_pickle


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


def name(module: bytes, attribute: bytes) -> bytes:
    return b"c" + module + b"\n" + attribute + b"\n"


def encoded(value: bytes) -> bytes:
    """Return the call by which Python 3 writes bytes for readers in Python 2."""
    return name(b"_codecs", b"encode") + b"(" + value + text(b"latin1") + b"tR"


def dtype(code: bytes, order: bytes = b"|") -> bytes:
    plain = b"(U" + bytes([len(code)]) + code + b"K\0K\1tR"
    return (
        name(b"numpy", b"dtype") + plain + b"(K\3U\1" + order + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\0tb"
    )


def state(shape: bytes, kind: bytes, data: bytes) -> bytes:
    return b"(K\1(" + shape + b"t" + kind + b"\x89" + data + b"t"


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def raw(data: bytes) -> bytes:
    return b"T" + struct.pack("<I", len(data)) + data


def array(shape: bytes, kind: bytes, data: bytes) -> bytes:
    return ARRAY + state(shape, kind, data) + b"b"


ARRAY = name(b"numpy.core.multiarray", b"_reconstruct") + b"(" + name(b"numpy", b"ndarray") + b"(K\0tU\1btR"
# Strings below 64 KiB are read into memory.
LINE = b"S'" + b"a" * 65_000 + b"'\n"

REPEATED = {
    "encode": b"\x80\x02]"
    + name(b"_codecs", b"encode")
    + b"q\x000("
    + text(b"a" * 65_000)
    + text(b"latin1")
    + b"tq\x010("
    + b"h\0h\1R" * 60_000
    + b"e.",
    "keys": b"\x80\x02]" + LINE + b"q\x000(" + b"}h\0Ns" * 60_000 + b"e.",
    "text keys": b"\x80\x02]" + text(b"a" * 65_000) + b"q\x000(" + b"}h\0Ns" * 60_000 + b"e.",
    "ordered dicts": b"\x80\x02](K\1K\2tq\x020"
    + name(b"collections", b"OrderedDict")
    + b"q\x000]("
    + b"h\2" * 100_000
    + b"e\x85q\x010"
    + b"h\0h\1R0" * 20_000
    + b".",
    "states": b"\x80\x02]"
    + ARRAY
    + b"q\0"
    + state(number(65_000), dtype(b"u1"), encoded(text(b"a" * 65_000)))
    + b"q\1b0"
    + b"h\0h\1b0" * 20_000
    + b".",
}


@pytest.fixture
def spooled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Give what counts the bytes in temporary files."""
    files: list[Any] = []
    make = tempfile.TemporaryFile

    def remembering() -> Any:
        files.append(make())
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", remembering)
    yield lambda: sum(os.fstat(file.fileno()).st_size for file in files)
    for file in files:
        file.close()


@pytest.mark.parametrize("kind", REPEATED)
def test_references_cannot_exhaust_anything(tmp_path: Path, kind: str) -> None:
    with growth_below(600 * MIB), pytest.raises(DataError, match=r"file\.pkl cannot be read \(it makes more"):
        read(tmp_path, REPEATED[kind])


def test_a_long_text_is_decoded_once(tmp_path: Path, spooled: Callable[[], int]) -> None:
    one = state(number(MIB), dtype(b"u1"), encoded(text(b"a" * MIB)))
    (tmp_path / "file.pkl").write_bytes(
        b"\x80\x02]" + ARRAY + b"q\0" + one + b"q\1b0" + b"h\0h\1b0" * 20_000 + b"."
    )
    with FolderTree(tmp_path) as tree:
        assert read_pickle(tree, "file.pkl") == []
        assert spooled() <= MIB + (64 << 10)


def part(images: bytes, **more: bytes) -> bytes:
    items = {"data": images, **more}
    return b"\x80\x02}(" + b"".join(text(key.encode()) + value for key, value in items.items()) + b"u."


SIDES = {32: b"K\1K\x20K\x20K\3", 84: b"K\1K\x54K\x54K\3"}


def image(side: int) -> bytes:
    return array(SIDES[side], dtype(b"u1"), raw(bytes(side * side * 3)))


def refusal(dataset: str, folder: Path, files: dict[str, bytes]) -> str:
    with growth_below(300 * MIB), pytest.raises(DataError) as caught:
        prepare(dataset, write_folder(folder / "x", files), folder / "s.h5")
    return str(caught.value)


def test_labels_that_have_no_safe_hash_are_refused(tmp_path: Path) -> None:
    """300,000 nested tuples crash Python where their hash is asked for."""
    for labels in (b")" + b"\x85" * 300_000, b"]"):
        data = part(image(84), labels=b"]K\0a", catname2label=b"}" + text(b"x") + labels + b"s")
        assert "values in catname2label that are not whole numbers" in refusal(
            "miniimagenet", tmp_path, {"f.pkl": data}
        )


def test_classes_that_share_their_indices_are_refused(tmp_path: Path) -> None:
    """3,000 classes of 100,000 images each would take 2.4 GB."""
    indices = b"](" + b"K\0" * 100_000 + b"eq\0"
    classes = b"}(" + text(b"a") + indices + b"".join(text(b"%d" % n) + b"h\0" for n in range(3_000)) + b"u"
    data = b"\x80\x02}(" + text(b"image_data") + image(84) + text(b"class_dict") + classes + b"u."
    assert "more indices than images" in refusal("miniimagenet", tmp_path, {"f.pkl": data})


def test_one_long_file_name_is_no_name_however_often(tmp_path: Path) -> None:
    rows = array(b"K\1M\x00\x0c", dtype(b"u1"), raw(bytes(3072)))
    names = b"(" + LINE + b"q\0" + b"h\0" * 60_000 + b"l"
    data = part(rows, fine_labels=b"]K\0a", filenames=names)
    assert "a file name for each image" in refusal("cifar-fs", tmp_path, {"f.pkl": data})


@pytest.mark.parametrize(
    ("kind", "count", "data"),
    [(b"S0", 1_000_000, b""), (b"U1", 1, b"\xff\xff\xff\x7f"), (b"U9", 30_000, b"")],
)
def test_odd_names_of_classes(tmp_path: Path, kind: bytes, count: int, data: bytes) -> None:
    names = array(number(count), dtype(kind, b"<"), raw(data or bytes(count * 4 * int(kind[1:]))))
    labels = b"\x80\x02}(" + text(b"label_specific") + b"]K\0a" + text(b"label_specific_str") + names + b"u."
    images = b"\x80\x02]" + array(number(len(png(84))), dtype(b"u1"), raw(png(84))) + b"a."
    assert refusal("tieredimagenet", tmp_path, {"labels.pkl": labels, "images.pkl": images})


def test_pickles_of_a_tree_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    monkeypatch.setattr(pickled, "read_pickle", lambda tree, name, budget: reads.append(name))
    with FolderTree(write_folder(tmp_path, {"a.pkl": b"\x80\x02N.", "b.pkl": b"\x80\x02N."})) as tree:
        assert pickled.read_pickles(tree) is pickled.read_pickles(tree)
    assert reads == ["a.pkl", "b.pkl"]


def test_pickles_share_what_they_may_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some kilobytes of a zip can hold many pickles, each of which alone may make millions of small parts."""
    monkeypatch.setattr(limits, "_MAX_FREE_OPCODES", 40_000)
    bomb = b"\x80\x02(" + b"}" * 30_000 + b"l."
    files = {f"{number}.pkl": bomb for number in range(4)} | {"last.pkl": b"\x80\x02]."}
    with FolderTree(write_folder(tmp_path, files)) as tree:
        found = pickled.read_pickles(tree)
    assert list(found.values) == ["0.pkl"]
    assert "it has more parts than a file of its size should" in str(found.fault)

"""What strangers' files are called is said in one printable line, whatever it is."""

import errno
import os
import struct
import tempfile
from pathlib import Path

import pytest
from data_prep_support import png, write_zip
from pickle_support import read

from data_prep import DataError, prepare
from data_prep.archives import where
from data_prep.archives.base import readable
from data_prep.errors import first_line, shortened


def test_a_sentence_is_one_printable_line() -> None:
    sentence = str(DataError("a\nb\x1b[31m\u202e \udcff is × wrong; do … it again."))
    assert sentence == r"a\nb\x1b[31m\u202e \udcff is × wrong; do … it again."
    assert str(DataError(sentence)) == sentence


def test_what_an_error_of_a_library_says() -> None:
    assert first_line(RuntimeError("CUDA out of memory.\nTried to allocate")) == "CUDA out of memory"
    assert first_line(TypeError("got an unexpected keyword argument 'foo'")).endswith("'foo'")
    assert first_line(KeyError("no such object")) == "no such object"
    assert first_line(EOFError()) == "EOFError"
    with pytest.raises(UnicodeDecodeError) as caught:
        b"\xe4".decode()
    assert first_line(caught.value).startswith("'utf-8' codec can't decode")


def test_a_sentence_has_an_end() -> None:
    sentence = str(DataError(f"x{'y' * 100_000} is wrong; get a fresh copy."))
    assert len(sentence) <= 3_000 and sentence.endswith("is wrong; get a fresh copy.")
    assert shortened("n" * 120) == "n" * 120 and len(shortened("n" * 121)) <= 120


def test_a_file_is_named_below_a_folder_that_is_called_alike(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    assert where(tmp_path / "x", "x") == f"{tmp_path / 'x'}: x"
    assert where(tmp_path / "x.pkl", "x.pkl") == f"{tmp_path / 'x.pkl'}"
    assert len(where(tmp_path, "n" * 60_000)) < len(str(tmp_path)) + 130


@pytest.mark.parametrize(
    "error",
    [IndexError("x"), MemoryError(), RecursionError("x"), OverflowError(), EOFError(), SystemError("x")],
)
def test_whatever_a_parser_raises_is_a_sentence(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(DataError, match=r"a\.pkl cannot be read \(.+\); check it") as caught,
        readable(tmp_path, "a.pkl"),
    ):
        raise error
    assert caught.value.__cause__ is error


def test_a_full_temporary_folder_is_not_the_fault_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught, readable(tmp_path, "a.pkl"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert tempfile.gettempdir() in str(caught.value) and "TMPDIR" in str(caught.value)
    assert "get a fresh copy" not in str(caught.value)


def text(value: str) -> bytes:
    """Return the opcode of a text in a pickle."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def test_forbidden_names_of_pickles_are_cut_and_escaped(tmp_path: Path) -> None:
    for module, name, asked in (
        ("o\ns\x1b[2J", "x", r"o\\ns\\x1b\[2J\.x"),
        ("A" * 60_000, "B" * 60_000, r"A+…A+\.B+…B"),
    ):
        with pytest.raises(DataError, match=f"it asks for {asked}") as caught:
            read(tmp_path, b"\x80\x04" + text(module) + text(name) + b"\x93.")
        assert str(caught.value).isprintable() and len(str(caught.value)) < 1_000


def test_notes_are_printable_too(tmp_path: Path) -> None:
    files = {f"c{label}/{n}.png": png(16, seed=n) for label in range(3) for n in range(20)}
    source = write_zip(tmp_path / "own.zip", {**files, "c0/a\nb\x1b[31m.png": b"broken"})
    notes = prepare("folder", source, tmp_path / "own.h5").notes
    assert any(r"a\nb\x1b[31m.png" in note for note in notes)
    assert all(note.isprintable() for note in notes)

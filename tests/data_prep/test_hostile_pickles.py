"""Pickles that no one should read: none runs, takes memory without bound, or surprises."""

import builtins
import os
import pickle
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from peak_memory import MIB, growth_below
from pickle_support import PLAIN, PROTOCOLS, pixels, read

from data_prep import DataError
from data_prep.archives import FolderTree
from data_prep.pickles import read_pickle
from data_prep.stored_arrays import StoredArray


class Runs:
    """Calls a function when it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def objects(*items: Any) -> "np.ndarray[Any, Any]":
    array = np.empty(len(items), object)
    array[:] = items
    return array


def attack_values(target: Path) -> dict[str, Any]:
    command = f"touch {target}"
    return {
        "os.system": Runs(os.system, command),
        "subprocess": Runs(subprocess.check_output, ["touch", str(target)]),
        "eval": Runs(builtins.eval, f"open({str(target)!r}, 'w')"),
        "exec": Runs(builtins.exec, f"open({str(target)!r}, 'w')"),
        "open": Runs(open, str(target), "w"),
        "nested": {"data": pixels(9), "labels": [1, (2, {"x": [Runs(os.system, command)]})]},
        "object array": objects(1, Runs(os.system, command)),
        "record": np.zeros(2, [("a", "u1"), ("b", "f4")]),
        "getattr": Runs(getattr, "x", "__class__"),
        "memmap": Runs(np.memmap, str(target), "u1", "w+", 0, (1 << 20,)),
        "load": Runs(np.load, str(target)),
        "slice": slice(1, 2),
        "set": {1, 2},
        "date": np.array(["2020-01-01"], "M8[D]"),
    }


ATTACKS = list(attack_values(Path("x")))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ATTACKS)
def test_pickles_that_run_code_do_nothing(tmp_path: Path, name: str, protocol: int) -> None:
    target = tmp_path / "it ran".replace(" ", "-")
    data = pickle.dumps(attack_values(target)[name], protocol)
    with pytest.raises(DataError, match=r"file\.pkl") as error:
        read(tmp_path, data)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file.pkl"]


def test_the_forbidden_name_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"file\.pkl cannot be read \(it asks for (posix|nt)\.system"):
        read(tmp_path, pickle.dumps(Runs(os.system, "true")))


def test_a_function_that_is_allowed_is_called_by_nobody_else(tmp_path: Path) -> None:
    """Names by which NumPy is known lead to no other function, whatever the arguments."""
    for data in (
        b"cnumpy\nndarray\n(I4\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
        b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
        b"cnumpy\ndtype\n(S'O8'\ntR.",
        b"cnumpy\ndtype.type\n.",
        b"(dI1\nb.",
        b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.ctor\x93.",
        b"(I1\nos\nsystem\n.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02cnumpy\nndarray\n)\x81.",
        b"P123\n.",
        b"\x82\x01.",
        b"\x97.",
    ):
        with pytest.raises(DataError):
            read(tmp_path, data)


def array_of(shape: bytes, data: bytes = b"S'x'\n", kind: bytes = b"u1") -> bytes:
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n" + shape
    return start + b"cnumpy\ndtype\n(S'" + kind + b"'\nI0\nI1\ntRI00\n" + data + b"tb."


BOMBS = {
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
    "string": b"T" + struct.pack("<I", 0xFFFFFFFF) + b"x.",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N",
    "long": b"\x8b" + struct.pack("<i", 1 << 30) + b"x.",
    "long line": b"L" + b"9" * 1_000_000 + b"L\n.",
    "memo": b"]r\xff\xff\xff\xffh\0.",
    "shape": array_of(b"(I1000000000000\ntI1\n"),
    "shape overflow": array_of(b"(I4294967296\nI4294967296\nt"),
    "shape negative": array_of(b"(I-1\nI-1\nt"),
    "shape deep": array_of(b"(" + b"I1\n" * 60 + b"t"),
    "shape nested": array_of(b"((I1\nttt"),
    "item size": array_of(b"(I1\nt", kind=b"S99999999999"),
    "list as data": array_of(b"(I1\nt", data=b"(I1\nl"),
    "deep lists": b"]" * 300_000 + b"a" * 299_999 + b".",
    "deep tuples": b")" + b"\x85" * 300_000 + b".",
    "deep key": b"}" + b")" + b"\x85" * 300_000 + b"Ns.",
    "deep type": b"cnumpy\ndtype\n(" + b")" + b"\x85" * 300_000 + b"tR.",
    "doubling": b")" + b"2\x86" * 300_000 + b".",
    "many": b"]" * 5_000_000 + b".",
    "marks": b"(" * 5_000_000 + b".",
    "itself": b"]q\0h\0a.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_pickles_cannot_exhaust_memory(tmp_path: Path, name: str) -> None:
    (tmp_path / "bomb.pkl").write_bytes(BOMBS[name])
    with growth_below(800 * MIB), FolderTree(tmp_path) as tree:
        try:
            read_pickle(tree, "bomb.pkl")  # some are just odd lists
        except DataError as error:
            assert "bomb.pkl" in str(error) and "\n" not in str(error)


def test_arrays_of_a_file_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(pixels(1000, 100)))
    with FolderTree(tmp_path) as tree:
        stored = read_pickle(tree, "file.pkl")
        assert isinstance(stored, StoredArray)
        os.truncate(path, 50_000)
        with pytest.raises(DataError, match="cut short"):
            stored.rows([999])


SEEDS = [
    pickle.dumps(value, protocol)
    for value in PLAIN.values()
    for protocol in PROTOCOLS
    if len(str(value)) < 5000
]


@settings(max_examples=300)
@given(st.sampled_from(SEEDS), st.data())
def test_damaged_pickles_never_surprise(
    tmp_path_factory: pytest.TempPathFactory, seed: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["cut", "flip", "swap"])):
            case "cut":
                del damaged[at:]
                break
            case "flip":
                damaged[at] = data.draw(st.integers(0, 255))
            case "swap":
                damaged[at], damaged[-at] = damaged[-at], damaged[at]
    never_surprises(tmp_path_factory, bytes(damaged))


@settings(max_examples=300)
@given(st.lists(st.sampled_from([bytes([code]) for code in range(256)]), max_size=40).map(b"".join))
@example(b"")
def test_any_bytes_never_surprise(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    never_surprises(tmp_path_factory, data)


def never_surprises(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    try:
        read(folder, data)
    except DataError as error:
        assert "file.pkl" in str(error) and "\n" not in str(error)
    except RecursionError:
        pass  # of `loaded`, on a list that holds itself

"""Pickles: what plain ones hold, and that no other runs, takes memory without bound, or surprises."""

import builtins
import collections
import os
import pickle
import resource
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep import DataError
from data_prep.archives import FolderTree
from data_prep.pickles import looks_like_pickle, read_pickle
from data_prep.stored_arrays import StoredArray

PROTOCOLS = range(6)
NUMPY_1, NUMPY_2 = b"numpy.core.multiarray", b"numpy._core.multiarray"


def read(folder: Path, data: bytes) -> Any:
    """Read a pickle with all arrays loaded."""
    (folder / "file.pkl").write_bytes(data)
    with FolderTree(folder) as tree:
        return loaded(read_pickle(tree, "file.pkl"))


def loaded(value: Any) -> Any:
    if isinstance(value, StoredArray):
        return value.load()
    if isinstance(value, dict):
        return {key: loaded(item) for key, item in value.items()}
    return type(value)(map(loaded, value)) if isinstance(value, list | tuple) else value


def same(one: Any, other: Any) -> bool:
    if isinstance(other, np.ndarray):
        return isinstance(one, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in other)
    if isinstance(other, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def pixels(*shape: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


PLAIN: dict[str, Any] = {
    "numbers": [0, 1, -1, 255, 70_000, -(2**31), 2**62, 1.5, True, False, None],
    "texts": ["", "a", "ü€😀", "line\nfeed", "x" * 300, ("t",), ("t", "u"), ("t", "u", "v"), (1, 2, 3, 4)],
    "nested": {"a": {"b": [[], {}, ()]}, 3: [1]},
    "small array": pixels(3),
    "array": pixels(40, 8, 8, 3),
    "large array": pixels(40, 84, 84, 3),
    "fortran": np.asfortranarray(pixels(5, 6, 7)),
    "types": [np.arange(5).astype(code) for code in ("<i4", ">i4", "<i8", "u2", "f4", "f8", "?", "S5", "U3")],
    "scalars": [np.int64(5), np.float32(0.5), np.uint8(7), np.bool_(True)],
    "empty array": np.zeros((0, 3), np.uint8),
    "shared": [b"the same" * 100] * 3,
    "ordered": collections.OrderedDict(a=1, b=[2]),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", [name for name in PLAIN if name != "shared"])
def test_plain_pickles_are_read_in_all_protocols(tmp_path: Path, name: str, protocol: int) -> None:
    value = PLAIN[name]
    data = pickle.dumps(value, protocol)
    assert same(read(tmp_path, data), dict(value) if name == "ordered" else value)
    assert looks_like_pickle(data) or type(value) not in (list, dict)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_names_of_either_numpy_are_known(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps({"a": pixels(300)}, protocol)
    old = data.replace(NUMPY_2, NUMPY_1) if protocol < 4 else data
    assert same(read(tmp_path, old), {"a": pixels(300)})


def python_2(value: Any, protocol: int) -> bytes:
    """Pickle as Python 2 does: byte strings, dicts, lists and uint8 arrays."""
    return python_2_value(value, protocol) + b"."


def python_2_value(value: Any, protocol: int) -> bytes:
    if isinstance(value, bytes):
        if protocol == 0:
            return b"S" + repr(value)[1:].encode() + b"\np0\n"
        size = len(value)
        return (b"U" + bytes([size]) if size < 256 else b"T" + struct.pack("<i", size)) + value + b"q\0"
    if isinstance(value, int):
        return b"I%d\n" % value
    if isinstance(value, list):
        return b"(l" + b"".join(python_2_value(item, protocol) + b"a" for item in value)
    if isinstance(value, dict):
        items = [python_2_value(part, protocol) for item in value.items() for part in item]
        return b"(d" + b"".join(a + b + b"s" for a, b in zip(items[::2], items[1::2], strict=True))
    shape = b"(" + b"".join(b"I%d\n" % side for side in value.shape) + b"t"
    kind = b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    return start + b"(I1\n" + shape + kind + b"I00\n" + python_2_value(value.tobytes(), protocol) + b"tb"


@pytest.mark.parametrize("protocol", [0, 1])
@pytest.mark.parametrize("sides", [(2, 3), (700, 84, 3)])
def test_pickles_of_python_2_are_read(tmp_path: Path, protocol: int, sides: tuple[int, ...]) -> None:
    value = {b"data": pixels(*sides), b"labels": [0, 1], b"n\xc3\xbc": [b"a\\'\"\n\xff", b"x" * 200]}
    data = python_2(value, protocol)
    expected = {"data": value[b"data"], "labels": [0, 1], "nü": [b"a\\'\"\n\xff", b"x" * 200]}
    assert same(read(tmp_path, data), expected)
    assert looks_like_pickle(data)
    foreign = pickle.loads(data, encoding="bytes")
    assert same(read(tmp_path, data)["data"], foreign[b"data"])


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_rows_are_those_of_the_array(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    array = np.arange(60, dtype="<i4").reshape(10, 2, 3)
    if data.draw(st.booleans()):
        array = np.asfortranarray(array)
    folder = tmp_path_factory.getbasetemp()
    (folder / "rows.pkl").write_bytes(pickle.dumps(array))
    wanted = data.draw(st.lists(st.integers(0, 9), max_size=20))
    with FolderTree(folder) as tree:
        stored = read_pickle(tree, "rows.pkl")
        assert isinstance(stored, StoredArray)
        np.testing.assert_array_equal(stored.rows(wanted), array[wanted])
        with pytest.raises(IndexError):
            stored.rows([10])


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
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (tmp_path / "bomb.pkl").write_bytes(BOMBS[name])
    with FolderTree(tmp_path) as tree:
        try:
            read_pickle(tree, "bomb.pkl")  # some are just odd lists
        except DataError as error:
            assert "bomb.pkl" in str(error) and "\n" not in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 800 << 10  # KiB


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


@settings(max_examples=300, deadline=None)
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


@settings(max_examples=300, deadline=None)
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

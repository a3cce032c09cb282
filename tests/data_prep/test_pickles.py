"""Pickles: what plain ones hold, in all protocols and of either Python."""

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pickle_support import PLAIN, PROTOCOLS, pixels, read

from data_prep.archives import FolderTree
from data_prep.pickles import looks_like_pickle, read_pickle
from data_prep.stored_arrays import StoredArray

NUMPY_1, NUMPY_2 = b"numpy.core.multiarray", b"numpy._core.multiarray"


def same(one: Any, other: Any) -> bool:
    if isinstance(other, np.ndarray):
        return isinstance(one, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in other)
    if isinstance(other, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


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
@settings(max_examples=50)
def test_rows_are_those_of_the_array(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    axes = data.draw(st.permutations(range(3)))
    array = (
        np.arange(60, dtype="<i4").reshape([(10, 2, 3)[axis] for axis in axes]).transpose(np.argsort(axes))
    )
    assert array.shape == (10, 2, 3)
    folder = tmp_path_factory.getbasetemp()
    (folder / "rows.pkl").write_bytes(pickle.dumps(array, data.draw(st.sampled_from(PROTOCOLS))))
    wanted = data.draw(st.lists(st.integers(0, 9), max_size=20))
    with FolderTree(folder) as tree:
        stored = read_pickle(tree, "rows.pkl")
        assert isinstance(stored, StoredArray)
        np.testing.assert_array_equal(stored.rows(wanted), array[wanted])
        with pytest.raises(IndexError):
            stored.rows([10])

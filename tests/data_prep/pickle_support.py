"""Reading pickles in tests, and plain ones."""

import collections
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.archives import FolderTree
from data_prep.pickles import read_pickle
from data_prep.stored_arrays import StoredArray

PROTOCOLS = range(6)


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
    "transposed": pixels(5, 3, 8, 8).transpose(0, 2, 3, 1),
    "transposed, rows not together": pixels(5, 6, 7).transpose(2, 0, 1),
    "types": [np.arange(5).astype(code) for code in ("<i4", ">i4", "<i8", "u2", "f4", "f8", "?", "S5", "U3")],
    "scalars": [np.int64(5), np.float32(0.5), np.uint8(7), np.bool_(True)],
    "empty array": np.zeros((0, 3), np.uint8),
    "shared": [b"the same" * 100] * 3,
    "ordered": collections.OrderedDict(a=1, b=[2]),
}

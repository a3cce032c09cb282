"""A learner, what its checkpoint has besides, and files that are none."""

import json
import struct
from typing import Any

from engine_support import make_learner

from pamela_cli.engine.backbones import Conv4
from pamela_cli.engine.checkpoint import FORMAT
from pamela_cli.engine.inner_loop import Learner

PROGRESS = {
    "step": 120,
    "best": {"accuracy": 0.4375, "step": 100},
    "history": [1, 2.5, None],
    "name": "θ ∘ Q",
}


def conv_learner(
    method: str = "pamela", w: int | None = 2, seed: int = 1, way: int = 3, steps: int = 5
) -> Learner:
    return make_learner(method, Conv4(way, 1, 16, 4), steps, w, seed=seed)


def tensor_file(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header, which may lie about its length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def _recorded(record: str) -> bytes:
    return tensor_file({"__metadata__": {"pamela": record}, "p": _entry()}, bytes(8))


TENSOR_FILES = {
    "a header of 2^63 bytes": tensor_file({}, length=2**63),
    "a header of 2^64 - 1 bytes": tensor_file({}, length=2**64 - 1),
    "a header beyond the end": tensor_file({}, length=1000),
    "a header that is no JSON": tensor_file(b"{{{{{{{{"),
    "a header that is a list": tensor_file([1, 2]),
    "a header nested without end": tensor_file(b"[" * 100_000),
    "a header of 2 MiB": tensor_file({"__metadata__": {"x": "y" * (2 << 20)}}),
    "no end of numbers": tensor_file({"p": _entry(shape=[2**62, 2**62])}, bytes(8)),
    "a negative shape": tensor_file({"p": _entry(shape=[-2])}, bytes(8)),
    "offsets backwards": tensor_file({"p": _entry(offsets=[8, 0])}, bytes(8)),
    "offsets beyond the end": tensor_file({"p": _entry(offsets=[0, 10**15])}, bytes(8)),
    "overlapping tensors": tensor_file({"p": _entry(), "q": _entry()}, bytes(8)),
    "a hole between tensors": tensor_file({"p": _entry(), "q": _entry(offsets=[16, 24])}, bytes(24)),
    "an unknown type": tensor_file({"p": _entry("PICKLE")}, bytes(8)),
    "numbers of four bits": tensor_file({"p": _entry("F4", [16])}, bytes(8)),
    "complex numbers": tensor_file({"p": _entry("C64", [1])}, bytes(8)),
    "an empty tensor": tensor_file({"p": _entry("F64", [0], [0, 0])}),
    "metadata that are no text": tensor_file({"__metadata__": {"pamela": 3}}),
    "a record that is a list": _recorded("[]"),
    "a record nested without end": _recorded("[" * 100_000),
    "a record nested deeply": _recorded('{"format": ' + "[" * 100 + "]" * 100 + "}"),
    "a number without end": _recorded('{"format": ' + "9" * 10_000 + "}"),
    "a record without a checksum": _recorded(json.dumps({"format": FORMAT, "progress": {}})),
    "a record without progress": _recorded(json.dumps({"format": FORMAT, "sha256": "0"})),
    "progress that is a list": _recorded(json.dumps({"format": FORMAT, "progress": [], "sha256": "0"})),
    "a checksum that is no text": _recorded(json.dumps({"format": FORMAT, "progress": {}, "sha256": [[]]})),
    "a format of another kind": _recorded(json.dumps({"format": [FORMAT], "progress": {}})),
}
"""Files that safetensors, or who reads what is in them, must refuse."""

"""What a pickle of plain data may ask to be called: a few names, each answered here and never looked up."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from data_prep.errors import one_line, shortened
from data_prep.pickles.limits import Budget, Refused
from data_prep.pickles.spans import Span, Spool
from data_prep.stored_arrays import OpenFile, StoredArray, laid_out

_MAX_DIMENSIONS = 8
_TYPE = re.compile(r"[<>|=]?([biufSU])([1-9][0-9]{0,4})")
_ITEM_BYTES = 100  # of a dict
_LONGEST_NAME = 1_000


@dataclass(frozen=True)
class Name:
    """A name that a pickle may use."""

    name: str


@dataclass(slots=True)
class TypeName:
    """A dtype being built: its letter and size, and the order of its bytes."""

    code: str
    order: str = "|"

    def dtype(self) -> "np.dtype[np.generic]":
        """Return the dtype."""
        return np.dtype(self.order + self.code)


def find_name(module: object, name: object) -> Name:
    """Return the name if plain data may need it; `Refused` for any other."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise Refused("it has a name that is not text")
    home = module.replace("numpy._core.", "numpy.core.")  # NumPy 2 has moved them
    if (home, name) not in _ALLOWED:
        asked = one_line(f"{shortened(module)}.{shortened(name)}")
        raise Refused(f"it asks for {asked}, which no dataset needs and which could run code")
    return Name(name)


class Builder:
    """Answers the calls of one pickle."""

    def __init__(self, source: OpenFile, spool: Callable[[], Spool], budget: Budget) -> None:
        self._source = source
        self._budget = budget
        self._spool = spool
        self._calls: dict[str, Callable[..., object]] = {
            "_reconstruct": self._reconstruct,
            "_frombuffer": self._array,
            "dtype": self._dtype,
            "scalar": self._scalar,
            "encode": self._encode,
            "bytes": lambda: b"",  # what Python 3 writes for readers in Python 2 where there are none
            "OrderedDict": self._ordered_dict,
        }

    def call(self, function: object, arguments: object) -> object:
        """Do what a pickle means by a call; `Refused` if it is none of those known."""
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise Refused("it calls something that is not a function")
        if function.name not in self._calls:
            raise Refused(f"it calls {function.name}, which plain data does not need")
        return self._calls[function.name](*arguments)

    def set_state(self, target: object, state: object) -> None:
        """Finish an array or a dtype; `Refused` for anything else."""
        if isinstance(target, TypeName) and isinstance(state, tuple):
            _, order, *structure = state[:5]
            order = order.decode("ascii") if isinstance(order, bytes) else order
            if order not in ("<", ">", "|", "=") or any(part is not None for part in structure):
                raise Refused("it has an array of a type that is not plain")
            target.order = str(order)
        elif isinstance(target, StoredArray) and isinstance(state, tuple) and len(state) == 5:
            _, shape, kind, fortran, data = state
            built = self._array(data, kind, shape, "F" if fortran else "C")
            target.source, target.start, target.dtype = built.source, built.start, built.dtype
            target.stored, target.axes = built.stored, built.axes
        else:
            raise Refused("it sets the state of something that is not an array")

    def _reconstruct(self, kind: object, _shape: object, _code: object) -> StoredArray:
        """Return an empty array, which `set_state` fills."""
        if kind != Name("ndarray"):
            raise Refused("it makes an array of a kind that is not plain")
        return StoredArray(self._source, 0, np.dtype(np.uint8), *laid_out((0,), fortran=False))

    def _array(
        self, data: object, kind: object, shape: object, order: object, axes: object = None
    ) -> StoredArray:
        """Return an array over a string of the file, once type, shape and size fit each other.

        With the order "K" (NumPy 2.4), `shape` is as the array is stored, and `axes` permutes that.
        """
        if not isinstance(kind, TypeName) or not isinstance(shape, tuple):
            raise Refused("it has an array of Python objects or without a shape")
        if len(shape) > _MAX_DIMENSIONS or not all(type(side) is int and side >= 0 for side in shape):
            raise Refused("it has an array of an invalid shape")
        source, start, size = self._bytes(data)
        if prod(shape) * kind.dtype().itemsize != size:
            raise Refused(f"it has an array of {shape} {kind.code} in {size:,} bytes")
        stored, own = laid_out(shape, order == "F")
        if order == "K" and axes is not None:
            if not isinstance(axes, tuple) or not all(type(axis) is int for axis in axes):
                raise Refused("it has an array of axes without numbers")
            if sorted(axes) != list(range(len(shape))):
                raise Refused("it has an array of axes that it does not have")
            own = axes
        return StoredArray(source, start, kind.dtype(), stored, own)

    def _bytes(self, data: object) -> tuple[OpenFile, int, int]:
        """Return where the bytes of an array are: file, start, size."""
        if isinstance(data, Span) and data.coding == "raw":
            return self._source, data.start, data.size
        if isinstance(data, bytes | Span):
            spool = self._spool()
            return (spool.file, *spool.add(data))
        raise Refused("it has an array of Python objects")

    def _dtype(self, code: object, *_flags: object) -> TypeName:
        text = code.decode("ascii") if isinstance(code, bytes) else code
        matched = _TYPE.fullmatch(text) if isinstance(text, str) else None
        if not matched:
            shown = f"the type {text[:20]!r}" if isinstance(text, str) else "a type without a name"
            raise Refused(f"it has an array of {shown}, not of plain numbers")
        return TypeName(matched.group(1) + matched.group(2))

    def _scalar(self, kind: object, data: object) -> object:
        if not isinstance(kind, TypeName) or not isinstance(data, bytes):
            raise Refused("it has an invalid number")
        if len(data) != kind.dtype().itemsize:
            raise Refused("it has a number of the wrong size")
        return np.frombuffer(data, kind.dtype())[0].item()

    def _encode(self, text: object, coding: object) -> object:
        """Return the bytes that Python 3 has written as a text, for readers in Python 2."""
        if coding not in ("latin1", b"latin1"):
            raise Refused("it has bytes in an encoding that Python does not write")
        if isinstance(text, str):
            self._budget.spend(len(text))
            return text.encode("latin-1")
        if isinstance(text, Span) and text.coding in ("utf-8", "text line"):
            return text
        raise Refused("it encodes something that is not text")

    def _ordered_dict(self, items: object = ()) -> dict[object, object]:
        if not isinstance(items, list | tuple):
            raise Refused("it has a dict that is not made of a list")
        self._budget.spend(_ITEM_BYTES * len(items))
        result: dict[object, object] = {}
        for item in items:
            if not isinstance(item, list | tuple) or len(item) != 2:
                raise Refused("it has a dict that is not made of pairs")
            self.put(result, item[0], item[1])
        return result

    def put(self, target: dict[object, object], key: object, value: object) -> None:
        """Set an item of a dict; a key in bytes, as Python 2 has them, becomes str."""
        if isinstance(key, str | bytes):
            self._budget.spend(len(key))
        if isinstance(key, bytes):
            key = text_of(key)
        if not isinstance(key, str | int):  # the hash of nested tuples could exhaust the stack of C
            raise Refused("it has a dict whose keys are neither strings nor whole numbers")
        target[key] = value


def text_of(data: bytes) -> str:
    """Return the text of a string of Python 2: UTF-8 or, where it is none, Latin-1."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def names_of(value: object) -> list[str] | None:
    """Return a list of names as texts; None if it is no list, or has what is no name.

    Long ones are none.
    """
    if not isinstance(value, list) or not all(
        isinstance(name, str | bytes) and len(name) <= _LONGEST_NAME for name in value
    ):
        return None
    texts: dict[int, str] = {}  # each decoded once, however often it is referred to
    for name in value:
        if isinstance(name, bytes) and id(name) not in texts:
            texts[id(name)] = text_of(name)
    return [texts[id(name)] if isinstance(name, bytes) else name for name in value]


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("builtins", "bytes"),
    ("__builtin__", "bytes"),
    ("collections", "OrderedDict"),
}

"""The parts of a store, checked before they are read.

An HDF5 file can link to other files and devices, unpack without bound, repeat itself and declare what it does
not have. A store does none of this, and a file that does is refused before its first byte is read.
"""

from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError
from data_prep.store.format import MAX_NAME_BYTES

# The writer's chunks have 1 MiB.
_MAX_CHUNK_BYTES = 64 << 20

_MAX_NAMES_BYTES = 64 << 20


def fault(group: Any, what: str) -> DataError:
    """Return the sentence for a store with a part that is not as it should be."""
    return DataError(f"{group.file.filename}: {what}; prepare it again with --force.")


def path_of(group: Any, name: str) -> str:
    """Return the path of a part without the leading slash, as sentences have it."""
    return f"{group.name}/{name}".lstrip("/")


def subgroup(group: Any, name: str) -> Any:
    """Return a group of a group, None if there is none."""
    found = _opened(group, name)
    return found if isinstance(found, h5py.Group) else None


def dataset(group: Any, name: str) -> Any:
    """Return a dataset, all of whose values are in the file as they are; None if there is none."""
    found = _opened(group, name)
    if not isinstance(found, h5py.Dataset):
        return None
    made = found.id.get_create_plist()
    # In this order: to ask for the shape of a virtual dataset can open the files that it is made of.
    if made.get_layout() == h5py.h5d.VIRTUAL or made.get_external_count() or made.get_nfilters():
        raise fault(group, f"{path_of(group, name)} is compressed or in another file")
    value_bytes = found.id.get_type().get_size()
    size = prod(found.shape) * value_bytes
    if found.chunks and prod(found.chunks) * value_bytes > _MAX_CHUNK_BYTES:
        raise fault(group, f"{path_of(group, name)} has chunks of more than {_MAX_CHUNK_BYTES >> 20} MiB")
    # Values that were never written would read as zeros; no file can lie about its own size.
    if not size <= found.id.get_storage_size() or size > _file_bytes(group):
        raise fault(group, f"{path_of(group, name)} is incomplete")
    return found


def integers(group: Any, name: str, kind: type[np.integer[Any]], shape: tuple[int, ...] | None) -> Any:
    """Return a dataset of just this type, and of this shape unless that is None; None if there is none."""
    found = dataset(group, name)
    if found is not None and (found.dtype != kind or (shape is not None and found.shape != shape)):
        wanted = f"{kind.__name__} {shape or '(classes + 1)'}"
        raise fault(group, f"{path_of(group, name)} is not {wanted}, but {found.dtype} {found.shape}")
    return found


def names(group: Any, name: str) -> list[str]:
    """Return different texts, a few at a time: one that many places refer to would take memory for each.

    None is empty, or has the zero byte that ends a name where checksums are made of them.
    """
    found = dataset(group, name)
    kind = h5py.check_string_dtype(found.dtype)
    if kind is None or (kind.length or 0) > MAX_NAME_BYTES:
        raise fault(group, f"{path_of(group, name)} are not short strings")
    step = max(_MAX_NAMES_BYTES // _file_bytes(group), 1)
    result: list[str] = []
    size = 0
    for first in range(0, found.shape[0], step):
        for encoded in found[first : first + step]:
            size += len(encoded)
            if len(encoded) > MAX_NAME_BYTES or size > _MAX_NAMES_BYTES:
                raise fault(group, f"{path_of(group, name)} are not short strings")
            result.append(bytes(encoded).decode())
    if "" in result or any("\0" in one for one in result) or len(set(result)) < len(result):
        raise fault(group, f"{path_of(group, name)} do not give each class its own name")
    return result


def text(group: Any, name: str) -> str:
    """Return an attribute that is a text."""
    identifier = group.attrs.get_id(name)
    value = group.attrs[name] if identifier.shape == () else None
    if not isinstance(value, str):
        raise fault(group, f"the attribute {name!r} is not text")
    try:
        value.encode()  # h5py lets bytes through that are not UTF-8
    except UnicodeEncodeError:
        raise fault(group, f"the attribute {name!r} is not valid UTF-8") from None
    return value


def numbers(group: Any, name: str) -> NDArray[np.float64]:
    """Return an attribute that is a short list of numbers."""
    identifier = group.attrs.get_id(name)
    if len(identifier.shape) != 1 or identifier.shape[0] > 3 or identifier.dtype != np.float64:
        raise fault(group, f"the attribute {name!r} is not a list of up to three float64 numbers")
    found = np.asarray(group.attrs[name], np.float64)
    if not (np.isfinite(found) & (found >= 0)).all():
        raise fault(group, f"the attribute {name!r} has impossible values")
    return found


def _opened(group: Any, name: str) -> Any:
    """Open a part, unless it is a link to somewhere else; None if there is none."""
    encoded = name.encode()
    if not group.id.links.exists(encoded):
        return None
    if group.id.links.get_info(encoded).type != h5py.h5l.TYPE_HARD:
        raise fault(group, f"{path_of(group, name)} is a link")
    return group[name]


def _file_bytes(group: Any) -> int:
    size: int = group.file.id.get_filesize()
    return size

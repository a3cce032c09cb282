"""Files that may come from anybody, checked before they are read.

Run folders are passed on. A file in one must not be a link or a pipe, nor larger than such a file can be:
everything read from there goes through here. Nothing in it is ever executed, and no pickle is opened.
"""

from __future__ import annotations

import json
import stat
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

LARGEST_SETTINGS = 16 << 10
"""Bytes of a file of settings: those of a run have 2 KiB, and the worst of 16 takes tomllib a second."""

LARGEST_DOCUMENT = 16 << 20
"""Bytes of a JSON document."""

# A validation on a million tasks, the most there can be, makes a line of 20 MB.
_LONGEST_LINE = 64 << 20

# The names and shapes of a checkpoint, and its progress, have 10 KiB.
_LARGEST_HEADER = 1 << 20

# Ours have five levels. What is deeper than an interpreter can follow could be read and never shown.
_DEEPEST = 20
_TOO_DEEP = "it is nested too deeply"

_LARGEST_NUMBER = 1e100
_LONGEST_NAME = 200


class OddFileError(Exception):
    """The file is not what it should be: a few words that say how."""


def check_file(path: Path, most: int, follow: bool = False) -> None:
    """:class:`OddFileError` unless ``path`` is a plain file of at most ``most`` bytes.

    A symbolic link is none, unless one is to ``follow`` it: where the user has named the file.
    """
    try:
        found = path.stat() if follow else path.lstat()
    except (OSError, ValueError) as error:  # what cannot be a file name is a ValueError
        raise OddFileError(_reason(error)) from error
    if stat.S_ISLNK(found.st_mode):
        raise OddFileError("it is a symbolic link, which is not followed")
    if not stat.S_ISREG(found.st_mode):
        raise OddFileError("it is not a regular file")
    if found.st_size > most:
        raise OddFileError(f"it has {found.st_size:,} bytes, but such a file has at most {most:,}")


def read_text(path: Path, most: int, follow: bool = False) -> str:
    """The text of a file that :func:`check_file` lets pass."""
    check_file(path, most, follow)
    try:
        with path.open("rb") as file:
            return file.read(most).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise OddFileError(_reason(error)) from error


def read_json(path: Path) -> Any:
    """The value in a JSON file; :class:`OddFileError` if it cannot be read."""
    return parse_json(read_text(path, LARGEST_DOCUMENT))


def parse_json(text: str | bytes) -> Any:
    """The value that a JSON text is; :class:`OddFileError` for one that is none, or nested without end."""
    return _parsed(json.loads, text)


def parse_toml(text: str) -> dict[str, Any]:
    """As :func:`parse_json`, for TOML."""
    document: dict[str, Any] = _parsed(tomllib.loads, text)
    return document


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file of any length, one at a time; none after one that is longer than lines can be."""
    check_file(path, most=1 << 62)
    try:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                if len(line) == _LONGEST_LINE:
                    return
                yield line
    except OSError as error:
        raise OddFileError(_reason(error)) from error


def check_tensors(path: Path, most: int) -> None:
    """As :func:`check_file`, for a safetensors file; its header, which is read whole, is not large either."""
    check_file(path, most + _LARGEST_HEADER)
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise OddFileError(_reason(error)) from error
    if header > _LARGEST_HEADER:
        raise OddFileError(
            f"its header has {header:,} bytes, but such a file's has at most {_LARGEST_HEADER:,}"
        )


def is_plain_name(text: str) -> bool:
    """Whether it names something in a folder, and cannot lead out of it."""
    length = len(text.encode("utf-8", "surrogatepass"))
    return Path(text).name == text and text != ".." and "\0" not in text and 0 < length <= _LONGEST_NAME


def is_unicode(text: str) -> bool:
    """Whether it has no lone surrogates, which stand in file names for bytes that are not UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def number(value: Any) -> float | None:
    """A number that can be drawn and written out, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= _LARGEST_NUMBER else None  # NaN fails this, too


def is_count(value: Any, most: int) -> bool:
    """Whether it is a whole number from 0 to ``most``; True is none."""
    return type(value) is int and 0 <= value <= most


def printable(text: str) -> str:
    """The text with a mark for each character that cannot be shown, or that would disturb its neighbours."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t\xa0" else "\N{REPLACEMENT CHARACTER}" for c in text)


def shown(value: Any, most: int = 60) -> str:
    """A value of any kind in a sentence; a whole number may be too long to be written out."""
    try:
        text = str(value)
    except ValueError:
        text = "a number too long to show"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def on_one_line(text: str, most: int) -> str:
    """The text as it can be shown on one line, its end left out where it is long."""
    return shown(printable(text).replace("\n", " "), most)


def _parsed(parse: Callable[[Any], Any], text: str | bytes) -> Any:
    try:
        value = parse(text)
    except (ValueError, RecursionError) as error:  # errors of both formats are ValueErrors
        raise OddFileError(_reason(error)) from error
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for each in level for inner in _within(each)]
    if level:
        raise OddFileError(_TOO_DEEP)
    return value


def _within(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    from data_prep.errors import first_line

    return getattr(error, "strerror", None) or shown(first_line(error), 200)

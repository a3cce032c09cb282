"""Long strings of a pickle, which stay in its file, and how texts that stand for bytes are undone."""

import codecs
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, cast

from data_prep.pickles.limits import Refused
from data_prep.stored_arrays import OpenFile

_BLOCK = 1 << 20

# Whole escapes of protocol 0, and what may be left of one at the end of a block.
_BYTES_LINE = re.compile(rb"""(?:[^\\]++|\\x[0-9a-f]{2}|\\[\\'"nrt])*+""")
_TEXT_LINE = re.compile(rb"(?:[^\\]++|\\u00[0-9a-f]{2})*+")
_CUT_ESCAPE = re.compile(rb"(?:\\(?:x[0-9a-f]?|u0{0,2}|u00[0-9a-f])?)?")


@dataclass(frozen=True, slots=True)
class Span:
    """A long string that stays in the file.

    `coding` is how its bytes are written: as they are; as a text whose characters are the bytes, which
    Python 3 does for readers in Python 2, in UTF-8 or, in protocol 0, as a line; or as a line of bytes with
    the escapes of repr(), which was Python 2's default.
    """

    start: int
    size: int
    coding: Literal["raw", "utf-8", "text line", "bytes line"] = "raw"


class Spool:
    """A temporary file without a name that decoded strings go to, which never grows larger than the pickle.

    Decoding makes no string longer, so that only references to the same strings could fill more.
    """

    def __init__(self, source: OpenFile, source_size: int) -> None:
        self._source = source
        self._limit = source_size
        self._places: dict[Span, tuple[int, int]] = {}
        file = tempfile.TemporaryFile()  # noqa: SIM115  closed with the tree
        self.file = OpenFile(cast(BinaryIO, file), source.path, source.name)

    def add(self, span: Span | bytes) -> tuple[int, int]:
        """Write the bytes that a string stands for; return their start and size in the spool."""
        if isinstance(span, bytes):
            return self._write([span], len(span))
        if span not in self._places:
            here = self._source.file.tell()
            self._places[span] = self._write(self._decoded(span), span.size)
            self._source.file.seek(here)
        return self._places[span]

    def _write(self, blocks: Iterable[bytes], most: int) -> tuple[int, int]:
        file = self.file.file
        start = file.seek(0, 2)
        if start + most > self._limit:
            raise Refused("it makes more bytes from its strings than it has")
        for block in blocks:
            file.write(block)
        return start, file.tell() - start

    def _decoded(self, span: Span) -> Iterator[bytes]:
        blocks = self._blocks(span)
        if span.coding == "utf-8":
            return _from_utf8(blocks)
        return _from_bytes_line(blocks) if span.coding == "bytes line" else _from_text_line(blocks)

    def _blocks(self, span: Span) -> Iterator[bytes]:
        for done in range(0, span.size, _BLOCK):
            yield bytes(self._source.read(span.start + done, min(_BLOCK, span.size - done)))


def unescape(text: bytes) -> bytes:
    """Undo the escapes of Python 2's repr(); ValueError if there are others."""
    return b"".join(_from_bytes_line([text]))


def _from_utf8(blocks: Iterable[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    for block in blocks:
        yield decoder.decode(block).encode("latin-1")
    decoder.decode(b"", final=True)


def _from_bytes_line(blocks: Iterable[bytes]) -> Iterator[bytes]:
    for block in _whole_escapes(blocks, _BYTES_LINE):
        yield codecs.escape_decode(block)[0]  # what Python's own reader uses; it is just not documented


def _from_text_line(blocks: Iterable[bytes]) -> Iterator[bytes]:
    for block in _whole_escapes(blocks, _TEXT_LINE):
        yield block.decode("raw-unicode-escape").encode("latin-1")


def _whole_escapes(blocks: Iterable[bytes], whole: re.Pattern[bytes]) -> Iterator[bytes]:
    """Cut blocks anew, so that none ends within an escape; ValueError for an escape that is not known."""
    rest = b""
    for block in blocks:
        text = rest + block
        matched = whole.match(text)
        end = matched.end() if matched else 0
        rest = text[end:]
        if not _CUT_ESCAPE.fullmatch(rest):
            raise ValueError("a string has an escape that Python does not write")
        yield text[:end]
    if rest:
        raise ValueError("a string ends within an escape")

"""What follows an opcode in a pickle: numbers, strings and lines, read within limits."""

import re
import struct
from collections.abc import Callable

from data_prep.pickles.limits import Budget, Refused
from data_prep.pickles.spans import Span, unescape
from data_prep.stored_arrays import OpenFile

# Strings from these sizes on stay in the file.
_LONG_BYTES, _LONG_TEXT = 256, 1 << 16

_LONGEST_NUMBER = 32


class Scanner:
    """Reads a pickle from its start on; EOFError if it ends early, ValueError if it is no pickle.

    Attributes: `size` in bytes; `read`, that of the file.
    """

    def __init__(self, source: OpenFile, budget: Budget) -> None:
        self._file = source.file
        self.size = self._file.seek(0, 2)
        self._file.seek(0)
        self.read = self._file.read
        self._spend = budget.spend

    def exactly(self, size: int) -> bytes:
        """Return the next bytes."""
        data = self.read(size)
        if len(data) != size:
            raise EOFError("it is cut short")
        return data

    def number(self, layout: str) -> Callable[[], int | float]:
        """Return a function that reads a number of a layout of `struct`."""
        fixed = struct.Struct(layout)

        def read_number() -> int | float:
            value: int | float = fixed.unpack(self.exactly(fixed.size))[0]
            return value

        return read_number

    def size_number(self, layout: str) -> Callable[[], int]:
        """Return a function that reads a whole number of a layout of `struct`."""
        read_number = self.number(layout)
        return lambda: int(read_number())

    def string(self, layout: str) -> Callable[[], bytes | Span]:
        """Return a function that reads bytes behind their size."""
        read_size = self.size_number(layout)

        def read_string() -> bytes | Span:
            size = read_size()
            return self._short(size) if size < _LONG_BYTES else Span(self._pass_over(size), size)

        return read_string

    def text(self, layout: str) -> Callable[[], str | Span]:
        """Return a function that reads a text behind its size."""
        read_size = self.size_number(layout)

        def read_text() -> str | Span:
            size = read_size()
            if size < _LONG_TEXT:
                return self._short(size).decode("utf-8")
            return Span(self._pass_over(size), size, "utf-8")

        return read_text

    def long(self) -> int:
        """Read a whole number behind its size."""
        size = self.exactly(1)[0]
        if size > _LONGEST_NUMBER:
            raise Refused("it has a number that is too large")
        return int.from_bytes(self.exactly(size), "little", signed=True)

    def line(self) -> str:
        """Read a short line."""
        line = self._file.readline(_LONG_BYTES)
        if not line.endswith(b"\n"):
            raise Refused("it has a line that is too long")
        return line[:-1].decode("utf-8")

    def integer_line(self) -> int:
        """Read a whole number as a line; 00 and 01 are False and True."""
        line = self.line()
        if not re.fullmatch(r"-?[0-9]{1,32}L?", line):
            raise Refused("it has an invalid number")
        return {"00": False, "01": True}.get(line, int(line.removesuffix("L")))

    def string_line(self) -> bytes | Span:
        """Read bytes as repr() of Python 2 wrote them, in quotes."""
        start, size = self._find_line()
        if size >= _LONG_TEXT:
            return Span(start + 1, size - 2, "bytes line")
        text = self._short(size + 1)[:-1]
        if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
            raise Refused("it has a string without quotes")
        return unescape(text[1:-1])

    def text_line(self) -> str | Span:
        """Read a text as a line."""
        start, size = self._find_line()
        if size >= _LONG_TEXT:
            return Span(start, size, "text line")
        text = self._short(size + 1)[:-1].decode("raw-unicode-escape")
        text.encode()  # half of a surrogate pair is no text
        return text

    def _find_line(self) -> tuple[int, int]:
        """Return start and size of the next line without its line feed; go on behind it if it is long."""
        start = end = self._file.tell()
        while not (line := self._file.readline(_LONG_TEXT)).endswith(b"\n"):
            if not line:
                raise EOFError("it is cut short")
            end += len(line)
        size = end + len(line) - 1 - start
        if size < _LONG_TEXT:
            self._file.seek(start)
        return start, size

    def _short(self, size: int) -> bytes:
        """Read a string that is kept in memory."""
        self._spend(size)
        return self.exactly(size)

    def _pass_over(self, size: int) -> int:
        """Go on behind `size` bytes, and return where they started."""
        start = self._file.tell()
        if start + size > self.size:
            raise EOFError("it is cut short")
        self._file.seek(start + size)
        return start

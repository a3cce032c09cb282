"""What a page is made of, and its HTML.

Run folders come from anywhere, and what they hold is text here, never markup: the template escapes
everything, and in addition the page's own policy forbids scripts and requests.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined

from pamela_cli import __version__
from pamela_cli.untrusted import printable

_SCALE = 0.62
"""A page's pixels for each of a figure, which has 200 to the inch."""


@dataclass(frozen=True)
class Table:
    """Rows of texts below a header. Columns named in ``words`` are set left, the others as numbers."""

    kind: ClassVar[str] = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset((0,))


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption, what it shows in words, and its numbers as CSV where they are known."""

    kind: ClassVar[str] = "picture"
    caption: str
    alt: str
    png: bytes
    file_name: str = ""
    numbers: bytes = b""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in a page's pixels: text in all figures is as large."""
        width, height = struct.unpack(">II", self.png[16:24])
        return round(width * _SCALE), round(height * _SCALE)

    @property
    def source(self) -> str:
        """The image as an address that needs no file."""
        return _inlined("image/png", self.png)

    @property
    def numbers_source(self) -> str:
        """The numbers as an address that needs no file."""
        return _inlined("text/csv;charset=utf-8", self.numbers)

    @classmethod
    def read(cls, path: Path, caption: str, alt: str) -> Picture:
        """A figure's PNG with the CSV beside it."""
        numbers = path.with_suffix(".csv")
        return cls(
            caption, alt, path.read_bytes(), numbers.name, numbers.read_bytes() if numbers.is_file() else b""
        )


@dataclass(frozen=True)
class Code:
    """Lines to type into a shell."""

    kind: ClassVar[str] = "code"
    caption: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Note:
    """A sentence; a ``pressing`` one is set apart."""

    kind: ClassVar[str] = "note"
    text: str
    pressing: bool = False


Block = Table | Picture | Code | Note


@dataclass(frozen=True)
class Section:
    """Blocks, then subsections, under a title."""

    title: str
    blocks: Sequence[Block]
    sections: Sequence[Section] = ()


@dataclass(frozen=True)
class Page:
    """A title, what it is about, what came out where that can be said in a word, and sections."""

    title: str
    lead: str
    sections: Sequence[Section]
    result: str = ""


def to_html(page: Page) -> str:
    """The page as one HTML document without scripts that needs no other file."""
    environment = Environment(
        loader=PackageLoader("pamela_cli", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(page=page, version=__version__)


def is_page(path: Path) -> bool:
    """Whether a file is such a page, by what it says first; not if it may not be read."""
    try:
        with path.open("rb") as file:
            return b'<meta name="generator" content="pamela ' in file.read(2048)
    except OSError:
        return False


def _finalize(value: Any) -> Any:
    return printable(value) if type(value) is str else value


def _inlined(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"

"""Reading a page of `pamela report` in the tests."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

MARKUP = "<script>window.pwned=1</script><img src=x onerror=window.pwned=1>\"'&${pwned}"
"""Runs in a page that does not escape it."""

_VOID = {"meta", "link", "img", "br", "hr"}
_ADDRESSES = ("src", "href", "srcset", "action", "data", "poster", "background")


class Page(HTMLParser):
    """The elements and the text of a page; an element that is not closed, or closed twice, is an error."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.images: list[bytes] = []
        self.codes: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.captions: list[str] = []
        self.headings: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "img":
            source = dict(attrs)["src"] or ""
            assert source.startswith("data:image/png;base64,")
            self.images.append(base64.b64decode(source.partition(",")[2], validate=True))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        for name, collected in (("code", self.codes), ("caption", self.captions)):
            if tag == name:
                collected.append("")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = set(self._open)
        if inside & {"style", "script"}:
            return
        self.text += data
        if inside & {"td", "th"}:
            self.tables[-1][-1][-1] += data
        if "code" in inside:
            self.codes[-1] += data
        if "caption" in inside:
            self.captions[-1] += data
        if self._open and re.fullmatch("h[1-6]", self._open[-1]):
            self.headings[-1] += data

    @property
    def addresses(self) -> list[str]:
        """Everything that a browser might fetch, or go to."""
        found = [
            value or "" for _, attrs in self.elements for key, value in attrs.items() if key in _ADDRESSES
        ]
        return found + re.findall(r"url\((.*?)\)|@import\s+(\S+)", html.unescape(self.source))

    def table(self, caption: str) -> list[list[str]]:
        """The rows of the table whose caption begins so, the header first."""
        return next(t for t, c in zip(self.tables, self.captions, strict=True) if c.startswith(caption))

    def value(self, caption: str, row: str, column: int = 1) -> str:
        """A cell of the table whose caption begins so, in the row of that name."""
        return next(cells for cells in self.table(caption) if cells[0] == row)[column]

    @property
    def commands(self) -> list[str]:
        """The commands that the page tells to type."""
        return [line for code in self.codes for line in code.splitlines()]

    def assert_alone(self) -> None:
        """The page needs no other file, and runs nothing."""
        for address in self.addresses:
            assert isinstance(address, str), address
            assert address.startswith(("data:", "#")), address
        tags = {tag for tag, _ in self.elements}
        assert not tags & {"script", "iframe", "object", "embed", "form", "base", "svg", "math"}
        for tag, attrs in self.elements:
            assert not [key for key in attrs if key.startswith("on")], tag
            if tag == "img":
                assert attrs["alt"]


def hostile_run(world: Path, name: str = f"{MARKUP}".replace("/", "\N{DIVISION SLASH}")) -> Path:
    """A copy of a run in whose every text there is markup."""
    run = world / "runs" / name
    shutil.copytree(world / "runs" / "tiny-a", run)
    config = run / "config.toml"
    text = config.read_text().replace('dataset = "tiny"', f"dataset = {json.dumps(MARKUP)}")
    config.write_text(text + f"{json.dumps(MARKUP)} = {json.dumps(MARKUP)}\n")
    environment = dict.fromkeys(("started", "torch", "platform", "cpu", "gpu", MARKUP), MARKUP)
    (run / "environment.json").write_text(json.dumps([environment]))
    summary = json.loads((run / "summary.json").read_text())
    for part in (summary, summary["val"], summary["test"]):
        part["run"] = part["dataset"] = MARKUP
    (run / "summary.json").write_text(json.dumps(summary))
    shutil.copy(run / "figures/training.png", run / "figures" / f"{name[:40]}.png")
    return run

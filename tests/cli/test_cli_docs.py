"""The commands that the documentation shows are known, with flags and values; links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from cli_support import command_line

from benchmarks.__main__ import _parser

ROOT = Path(__file__).parents[2]
PATTERNS = ("*.md", "docs/*.md", "results/*.md", "pamela_cli/**/*.toml")
PAGES = [page for pattern in PATTERNS for page in sorted(ROOT.glob(pattern))]


def shown(program: str) -> list[tuple[str, str]]:
    """Page and command, of lines by themselves and of quotations; but for those that leave something open."""
    found = []
    for page in PAGES:
        text = re.sub(r"\\\n\s*(# )?", " ", page.read_text(encoding="utf-8"))
        commands = re.findall(rf"^(?:# +)?{program} +(.*?)(?: # .*| > .*)?$", text, re.MULTILINE)
        commands += re.findall(rf"`{program} +([^`\n]+)`", text)
        found += [(page.name, words.strip()) for words in commands if not re.search(r"[…\[|]", words)]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(("page", "words"), shown("pamela"))
def test_commands_are_known(page: str, words: str) -> None:
    name, *arguments = shlex.split(words)
    last = [name, *arguments][-1]
    group = command_line()
    if name.startswith("-"):
        return
    assert name in group.commands, page
    try:
        # With its parent, as ever: what a command's options for help are called is kept from the first time.
        parent = typer.Context(group, **group.context_settings)
        group.commands[name].make_context(name, arguments, parent=parent).close()
    except Exception as error:
        kind = type(error).__name__
        # A command that is spoken of without its RUN, or an option without its value.
        spoken_of = {"MissingParameter": True, "BadOptionUsage": last.startswith("--")}
        assert spoken_of.get(kind), f"{page}: {error}"


@pytest.mark.parametrize(("page", "words"), shown("python -m benchmarks"))
def test_benchmarks_are_known(page: str, words: str) -> None:
    _parser().parse_args(shlex.split(words))


def test_there_are_many() -> None:
    assert len(shown("pamela")) > 80 and len(shown("python -m benchmarks")) > 12


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert "://" in link or target.exists(), link
        assert "://" in link or not anchor or anchor in anchors(target), link

"""What tables for the terminal share."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from data_prep.errors import one_line


def titled(title: str, table: Table, note: str) -> Group:
    """A table between its title and a note; neither is broken to the table's width."""
    return Group(Text(title, style="bold"), table, Text(note, style="dim"))


def named(name: object) -> Text:
    """What a stranger may have named, as it is: not as markup, nor as commands to the terminal."""
    return Text(one_line(str(name)))

"""What every command is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pamela_cli.config import Settings
from pamela_cli.console import Console


@dataclass(frozen=True)
class Context:
    """The console, the folders, and the settings given as flags.

    ``arguments`` are those of the whole command line, to call it again.
    """

    console: Console
    data_dir: Path
    runs_dir: Path
    flags: Settings
    arguments: tuple[str, ...] = ()

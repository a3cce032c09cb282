"""What the user sees: messages and progress on stderr, results on stdout."""

from __future__ import annotations

import json
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderResult
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from pamela_cli.errors import PamelaError
from pamela_cli.untrusted import on_one_line, printable

_LONGEST_SENTENCE = 3_000

_FILE_WIDTH = 160
"""Columns of a table that goes into a file or to another program, unless COLUMNS says otherwise."""

_STDERR = 2  # the file descriptor

PLAIN_INTERVAL = 30.0
"""Seconds between progress lines where there is no terminal to draw a bar on."""


class Bar(Protocol):
    """Progress of one piece of work."""

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        """``done`` of the total are done; ``note`` says how it goes. ``total`` replaces the one so far."""
        ...


class _Stderr:
    """Standard error; where it is gone, a pipe or a terminal, messages are dropped and the work goes on."""

    @property
    def _stream(self) -> Any:
        # While a bar is shown, Rich has its own in the place of it.
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)

    @property
    def rich_proxied_file(self) -> _Stderr:
        """Itself: Rich writes to what it finds under this name."""
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or from now on nowhere."""
        with _dropped():
            if self._stream is not None:  # closed before
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or from now on nowhere."""
        with _dropped():
            if self._stream is not None:
                self._stream.flush()


@contextmanager
def _dropped() -> Iterator[None]:
    try:
        yield
    except OSError:
        # Python would fail at its end, over what it could not write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDERR)


class Console:
    """Messages for a person. ``quiet`` leaves results and errors, ``as_json`` one document on stdout."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False, as_json: bool = False) -> None:
        self.quiet, self.verbose, self.as_json = quiet, verbose, as_json
        self._muted = False
        self.has_failed = False
        # Names may come from anybody: nothing in a text is markup.
        self._err = RichConsole(file=cast(IO[str], _Stderr()), highlight=False, markup=False, emoji=False)
        self._out = RichConsole(highlight=False, markup=False, emoji=False)
        if not self._out.is_terminal and "COLUMNS" not in os.environ:
            self._out.width = _FILE_WIDTH

    def mute(self) -> None:
        """From now on say nothing but errors: another process speaks for all."""
        self.quiet = self._muted = True

    def say(self, text: str) -> None:
        """A message along the way."""
        if not self.quiet:
            self._err.print(Text(printable(text)), soft_wrap=True)

    def detail(self, text: str) -> None:
        """A message for those who asked for more with ``-v``."""
        if self.verbose:
            self.say(text)

    def warn(self, text: str) -> None:
        """Something the user should know and may want to fix."""
        if not self._muted:
            self._err.print(Text.assemble(("warning: ", "bold yellow"), _sentence(text)), soft_wrap=True)

    def error(self, text: str) -> None:
        """Why the command fails."""
        self.has_failed = True
        self._err.print(Text.assemble(("error: ", "bold red"), _sentence(text)), soft_wrap=True)

    def result(self, renderable: Any, document: dict[str, Any]) -> None:
        """The result: a table for people, or the document where ``--json`` asks for it."""
        if self._muted:
            return
        if self.as_json:
            self.document(document)
            return
        with _printing():
            # A path alone, say, is one line however long: it may be for another command.
            self._out.print(_Harmless(renderable), soft_wrap=isinstance(renderable, Text))

    def document(self, document: dict[str, Any]) -> None:
        """One JSON document on stdout."""
        if sys.stdout is None:  # closed before
            return
        text = json.dumps(finite(document), ensure_ascii=False)
        # File names may be invalid Unicode, or terminal commands; and a terminal may know only ASCII.
        if not text.isprintable() or not _can_be_written(text, sys.stdout.encoding):
            text = json.dumps(finite(document))
        with _printing():
            print(text, flush=True)

    def text(self, text: str) -> None:
        """A table as text on stdout, for files and other programs: in UTF-8 whatever the locale."""
        if self._muted or sys.stdout is None:
            return
        with _printing():
            sys.stdout.flush()
            # File names may be invalid Unicode: they come out as they are on the disk.
            try:
                data = text.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:  # other lone surrogates, from somebody's document
                data = printable(text).encode()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Bar]:
        """Show progress of ``what`` while the block runs."""
        if self.quiet:
            yield _Silent()
        elif self._err.is_terminal:
            yield from self._live(printable(what), total)
        else:
            yield _Plain(self, what, total)

    def _live(self, what: str, total: int) -> Iterator[Bar]:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=8),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            # On a narrow terminal the note gives way, and the other columns keep their width.
            TextColumn("{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        )
        with Progress(*columns, console=self._err, transient=True, expand=True) as progress:
            task = progress.add_task(what, total=total, note="")
            yield _Live(progress, task)


@contextmanager
def _printing() -> Iterator[None]:
    """:class:`PamelaError` if stdout cannot be written to; that its reader has gone is no fault."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        # Python would fail at its end, over what it could not write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise PamelaError(f"the result could not be printed: {error.strerror}.") from error


def mute_library_warnings() -> None:
    """Leave out the engine's warnings, which are for those who use it as a library: commands say the same."""
    warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"pamela_cli\.engine\.graphs")


def finite(value: Any) -> Any:
    """The value as JSON can hold it: numbers that are not finite become null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _can_be_written(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _sentence(text: str) -> str:
    """The text on one line, of a length that can be read."""
    return on_one_line(text, _LONGEST_SENTENCE)


@dataclass(frozen=True)
class _Harmless:
    """What is to be printed, without commands to the terminal in its texts."""

    renderable: Any

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        for text, style, control in console.render(self.renderable, options):
            yield Segment(text if control else printable(text), style, control)


class _Silent:
    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        pass


class _Live:
    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        self._progress.update(self._task, completed=done, note=note, total=total)


class _Plain:
    def __init__(self, console: Console, what: str, total: int) -> None:
        self._console, self._what, self._total = console, what, total
        self._last = time.monotonic()

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        self._total = total or self._total
        now = time.monotonic()
        if now - self._last >= PLAIN_INTERVAL:
            self._last = now
            self._console.say(f"{self._what} {done:,}/{self._total:,} {note}".rstrip())

"""Errors that reach the user: one sentence that says what, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path


class PamelaError(Exception):
    """The command failed; exit code 1."""

    exit_code = 1


class UsageError(PamelaError):
    """The command was called wrongly; exit code 2."""

    exit_code = 2


def reason(error: OSError) -> str:
    """What the system says of a file; of some faults it does not say which file."""
    return ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)


def cause(error: Exception) -> str:
    """What went wrong with a file that the sentence names already."""
    return getattr(error, "strerror", None) or str(error)


def holds_something_else(flag: str, path: Path) -> UsageError:
    """The sentence for a file that would be written over, and is none of those that may be."""
    return UsageError(
        f"{flag} {path} already exists and holds something else; choose another file, or remove it."
    )


def meant(value: object, choices: Sequence[str], listed: bool = False) -> str:
    """How a sentence on a value that is none of the choices ends: with the one that may be meant.

    ``listed``: else with all of them.
    """
    close = get_close_matches(str(value).casefold().replace("_", "-"), choices, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; the known ones are {', '.join(choices)}." if listed else "."


def some_of(names: Sequence[str], most: int = 8) -> str:
    """The first few of many names."""
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")


class Stopped(BaseException):
    """A signal asked the command to stop; it has saved what it can. Exit code 128 + signal.

    It can be raised anywhere, and is not an Exception, so that nobody mistakes it for a fault in their input.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number

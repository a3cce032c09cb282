"""Python processes that this one starts."""

from __future__ import annotations

import os
import sys


def python(statement: str, *arguments: str) -> list[str]:
    """The command line of a process that runs ``statement``, with the arguments in ``sys.argv``.

    It finds modules where this process does, and none in the folder in which it happens to be started, which
    may be a stranger's.
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; {statement}"
    return [sys.executable, "-P", "-c", code, *arguments]


def end_with_parent() -> None:
    """Wait until stdin ends, which is a pipe that the parent holds open; then end this process, at once."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)

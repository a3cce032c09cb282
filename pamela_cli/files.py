"""Files of a run: whole or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from data_prep.locking import locked
from data_prep.store.atomic import atomic_path
from pamela_cli.errors import PamelaError


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replace ``path`` by ``data``: a reader, a kill or a power cut sees the old content or the new.

    :class:`PamelaError` where it cannot be written; ``path`` is then as it was.
    """
    blob = data.encode() if isinstance(data, str) else data
    with atomic_path(path, failed=cannot_write) as temporary:
        try:
            temporary.write_bytes(blob)
        except OSError as error:
            raise cannot_write(path, error) from error


def keep_as(path: Path, other: Path) -> None:
    """Let ``other`` have the content of ``path`` too, where there is such a file; ``path`` stays."""
    draft = other.with_name(f".{other.name}.partial")
    try:
        draft.unlink(missing_ok=True)
        try:
            os.link(path, draft)
        except FileNotFoundError:
            return
        except OSError:  # a file system without links
            shutil.copyfile(path, draft)
        draft.replace(other)
        # Two names of one file are left as they are, where a kill came between this and a new ``path``.
        draft.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(other, error) from error


@contextmanager
def only_one(folder: Path, said: str) -> Iterator[None]:
    """Keep other processes from the same folder while the block runs; ``said`` is the error for a second one.

    On a file system without locks processes are trusted.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(locked(folder, PamelaError(said)))
        yield


def cannot_write(path: Path, error: Exception) -> PamelaError:
    """The sentence for a file that could not be written."""
    reason = getattr(error, "strerror", None) or error
    return PamelaError(f"{path} could not be written ({reason}); make room or mend its access rights.")

"""Files of a run: complete or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from data_prep.locking import locked
from data_prep.store.atomic import atomic_path, flush, flush_folder
from pamela_cli.errors import PamelaError, cause


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replace ``path`` by ``data``: a reader, a kill or a power cut sees the old content or the new.

    :class:`PamelaError` if it cannot be written; ``path`` is then as it was.
    """
    # Names of files that are no Unicode can get into texts.
    blob = data.encode(errors="replace") if isinstance(data, str) else data
    with replacing(path) as temporary:
        temporary.write_bytes(blob)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write in place of ``path``, which it becomes at the end of the block.

    :class:`PamelaError` if that cannot be written; then ``path`` is as it was.
    """
    with atomic_path(path, failed=cannot_write) as temporary, writing(path):
        yield temporary


def append(path: Path, text: str) -> None:
    """Add to the end of a file, which a power cut may undo until the file is flushed."""
    with writing(path), path.open("a", encoding="utf-8", errors="replace") as file:
        file.write(text)


def make_durable(path: Path) -> None:
    """Let a power cut spare what was appended to a file so far, where there is such a file."""
    with writing(path), suppress(FileNotFoundError):
        flush(path)
        flush_folder(path.parent)


def keep_as(path: Path, other: Path) -> None:
    """Let ``other`` have the content of ``path`` too, where there is such a file; ``path`` stays."""
    if not path.exists():
        return
    with replacing(other) as temporary:
        try:
            temporary.unlink()
            os.link(path, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(path, temporary)


@contextmanager
def only_one(folder: Path, said: str) -> Iterator[None]:
    """Keep other processes from the same folder while the block runs; ``said`` is the error for a second one.

    On a file system without locks processes are trusted.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(locked(folder, PamelaError(said)))
        yield


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """:class:`PamelaError` that names ``path`` where it cannot be written in the block."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: Exception) -> PamelaError:
    """The sentence for a file that could not be written."""
    return PamelaError(
        f"{path} could not be written ({cause(error)}); free some space or fix its access rights."
    )

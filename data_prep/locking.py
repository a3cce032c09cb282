"""One process at a time: the system's locks, which are released when their process ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextmanager
def locked(path: Path, busy: Exception) -> Iterator[None]:
    """Keep other processes from a file or folder while the block runs; raises `busy` if one has it.

    OSError if the file system has no locks. Elsewhere than on POSIX systems processes are trusted.
    """
    if sys.platform == "win32":
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        yield
    finally:
        os.close(handle)

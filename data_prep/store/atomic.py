"""Files that are whole or not there."""

import errno
import os
import platform
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_prep.errors import DataError

Failure = Callable[[Path, Exception], Exception]
"""What to raise for a path that cannot be written, and why."""


def cannot_write(out: Path, error: Exception) -> DataError:
    """Return the sentence for an `out` that could not be written."""
    # h5py puts the errno of a failed write into a long message, and on closing into nothing but the message.
    found = re.search(r"errno = (\d+)", str(error))
    number = getattr(error, "errno", None) or (int(found.group(1)) if found else None)
    reason = (
        os.strerror(number) if number else str(error).splitlines()[0] if str(error) else type(error).__name__
    )
    advice = (
        "free some space" if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "choose another --out"
    )
    return DataError(f"{out} could not be written ({reason}); {advice} and run it again.")


@contextmanager
def atomic_path(out: Path, failed: Failure = cannot_write) -> Iterator[Path]:
    """Give the path of an empty temporary file beside `out`, which becomes `out` if the block succeeds.

    On any exception, KeyboardInterrupt included, the temporary file and folders made for it are removed, and
    `out` stays as it was. What killed processes left behind for the same `out` is removed first. Where `out`
    cannot be written, raises what `failed` makes of it: DataError unless told otherwise.
    """
    # The name is chosen before there is a file, so that no moment is left in which a signal leaves it behind.
    temporary = out.parent / f"{_prefix(out)}{os.getpid()}-{secrets.token_hex(4)}.partial"
    new_folders: list[Path] = []
    try:
        try:
            new_folders += [folder for folder in (out.parent, *out.parent.parents) if not folder.exists()]
            out.parent.mkdir(parents=True, exist_ok=True)
            _remove_debris(out)
            temporary.open("xb").close()
        except OSError as error:
            raise failed(out, error) from error
        yield temporary
        try:
            _commit(temporary, out)
        except OSError as error:
            raise failed(out, error) from error
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        with suppress(OSError):  # somebody else may have put something there
            for folder in new_folders:
                folder.rmdir()
        raise


def _commit(temporary: Path, out: Path) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(out)
    if os.name == "posix":
        # The rename is durable only with its folder, which not every file system lets one flush. The file is
        # there and whole: whatever goes wrong here is no failure to write it.
        with suppress(OSError):
            folder = os.open(out.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _prefix(out: Path) -> str:
    # The machine's name is in it: a process id says nothing about a process on another machine.
    host = re.sub(r"[^A-Za-z0-9.]", "_", platform.node())
    return f".{out.name}.{host}-"


def _remove_debris(out: Path) -> None:
    """Remove the temporary files of processes on this machine that have ended."""
    prefix = _prefix(out)
    for path in out.parent.iterdir():
        owner = re.fullmatch(re.escape(prefix) + r"(\d+)-.*\.partial", path.name)
        if owner and not _alive(int(owner.group(1))):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True  # there is no harmless question to ask elsewhere: os.kill would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

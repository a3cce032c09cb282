"""Files and folders that are complete or absent, whatever ends the writing: a signal, a kill, a power cut."""

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_prep.errors import FULL, DataError, first_line

_SUFFIX = ".partial"

Failure = Callable[[Path, Exception], Exception]
"""What to raise for a path that cannot be written, and why."""


def cannot_write(out: Path, error: Exception) -> DataError:
    """Return the sentence for an `out` that could not be written."""
    # h5py puts the errno of a failed write into a long message, and on closing into nothing but the message.
    found = re.search(r"errno = (\d+)", str(error))
    number = getattr(error, "errno", None) or (int(found.group(1)) if found else None)
    reason = os.strerror(number) if number else first_line(error)
    if number in (errno.ENOTDIR, errno.EEXIST):
        blocking = next((each for each in out.parents if each.is_file()), None)
        reason = f"{blocking} is a file, not a folder" if blocking else reason
    advice = "free some space" if number in FULL else "choose another --out"
    return DataError(f"{out} could not be written ({reason}); {advice} and run the command again.")


@contextmanager
def atomic_path(out: Path, failed: Failure = cannot_write) -> Iterator[Path]:
    """Give the path of an empty temporary file beside `out`, which becomes `out` if the block succeeds.

    On any exception, KeyboardInterrupt included, the temporary file and folders made for it are removed, and
    `out` stays as it was. What killed processes left behind for the same `out` is removed first. Where `out`
    cannot be written, raises what `failed` makes of it: DataError unless told otherwise.
    """
    with _draft(out, failed, lambda path: path.open("xb").close()) as temporary:
        yield temporary
        with _failing(out, failed):
            flush(temporary)
            temporary.replace(out)
            temporary.unlink(missing_ok=True)  # two names of one file are left as they are


@contextmanager
def atomic_folder(out: Path, failed: Failure = cannot_write) -> Iterator[Path]:
    """As `atomic_path`, for a folder that is not there yet; what is in it has to be flushed in the block."""
    with _draft(out, failed, Path.mkdir) as temporary:
        yield temporary
        with _failing(out, failed):
            temporary.rename(out)


def is_draft(path: Path) -> bool:
    """Return whether the path is that of a temporary file or folder, to judge by its name."""
    return path.name.startswith(".") and path.name.endswith(_SUFFIX)


def flush(path: Path) -> None:
    """Wait until what was written to a file is on its disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on its disk, where the file system lets one."""
    if os.name == "posix":
        # A file that was renamed is there and whole: whatever goes wrong here is no failure to write it.
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


@contextmanager
def _draft(out: Path, failed: Failure, make: Callable[[Path], None]) -> Iterator[Path]:
    """Give the path of what `make` makes beside `out`, for the block to turn into `out`."""
    # The name is chosen before there is a file, so that no moment is left in which a signal leaves it behind.
    temporary = out.parent / f"{_prefix(out)}{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
    new_folders: list[Path] = []
    try:
        with _failing(out, failed):
            new_folders += [folder for folder in (out.parent, *out.parent.parents) if not folder.exists()]
            out.parent.mkdir(parents=True, exist_ok=True)
            _remove_debris(out)
            make(temporary)
        yield temporary
        # A rename is durable only with its folder, and that folder's name with the one above.
        for folder in (out, *new_folders):
            flush_folder(folder.parent)
    except BaseException:
        with suppress(OSError):
            _remove(temporary)
        with suppress(OSError):  # somebody else may have put something there
            for folder in new_folders:
                folder.rmdir()
        raise


@contextmanager
def _failing(out: Path, failed: Failure) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        failure = failed(out, error)
        raise failure from (None if failure is error else error)


def _prefix(out: Path) -> str:
    # A process id says nothing about a process on another machine. Which one this is, is nobody's business.
    host = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    return f".{out.name}.{host}-"


def _remove_debris(out: Path) -> None:
    """Remove what processes on this machine that have ended left behind for the same `out`."""
    prefix = _prefix(out)
    for path in out.parent.iterdir():
        owner = re.fullmatch(re.escape(prefix) + r"(\d+)-.*" + re.escape(_SUFFIX), path.name)
        if owner and not _alive(int(owner.group(1))):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True  # elsewhere there is no harmless way to ask: os.kill would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

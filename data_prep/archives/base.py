"""The view itself, its limits, and what its variants share."""

import errno
import hashlib
import posixpath
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from data_prep.errors import FULL, Damaged, DataError, NoRoom, first_line, is_of_content, shortened

# Far above any image file, far below what would hurt.
MAX_MEMBER_BYTES = 64 << 20


class _Closable(Protocol):
    def close(self) -> None: ...


class Tree(ABC):
    """Files by name, a relative path with slashes; a context manager.

    Attributes: `path`, where it is; `kind`, "folder", "zip", "tar" or "file", for messages; `unreadable`,
    what is wrong with the folders in it that could not be looked into, and `empty`, the folders that hold
    nothing, once its names were asked for.
    """

    kind: str

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unreadable: list[DataError] = []
        self.empty: list[str] = []
        self._names: list[str] | None = None
        self._opened: list[_Closable] = []

    def names(self) -> list[str]:
        """Return the names of all regular files, sorted, without hidden ones and macOS's shadow files.

        They are searched for only once: every form asks, and on a network disk a walk may take minutes.
        """
        if self._names is None:
            self._names = self._list()
        return self._names

    @abstractmethod
    def _list(self) -> list[str]: ...

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return a file's bytes; DataError if it is damaged or larger than MAX_MEMBER_BYTES."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a file of any size for reading at any place; it is open as long as the tree is."""

    @abstractmethod
    def head(self, name: str, size: int) -> bytes:
        """Return the first bytes of a file, which is not counted as read."""

    def sha256(self) -> str:
        """Return the checksum of an archive, or, for a folder, of a list of the files read so far.

        That list has lines as `sha256sum` writes them, "<sha256>  <name>", sorted by name.
        """
        return file_sha256(self.path)

    def keep(self, file: _Closable) -> None:
        """Close a file, or what has files open, together with the tree."""
        self._opened.append(file)

    def close(self) -> None:
        """Close what is open."""
        for file in self._opened:
            with suppress(OSError):  # a full temporary folder is reported once
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def without_ending(name: str) -> str:
    """Return the name of an archive without its suffix."""
    return re.sub(r"(?i)\.(zip|tar\.gz|tgz|tar)$", "", name)


def where(path: Path, name: str = "") -> str:
    """Return what messages call a file of the tree at `path`: `path` itself where the tree is that file."""
    if path == Path():  # the working directory: the file's own path says it all
        return shortened(name)
    if not name or (name == path.name and not path.is_dir()):
        return f"{path}"
    return f"{path}: {shortened(name)}"


def begins_with(tree: Tree, name: str, mark: bytes) -> bool:
    """Whether a file begins with these bytes; an unrelated file that cannot be read does not."""
    try:
        return tree.head(name, len(mark)) == mark
    except DataError:
        return False


def lacking(tree: Tree, what: str, missing: Sequence[str]) -> DataError:
    """Return the sentence for a tree that has only some of the parts of a dataset."""
    names = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
    if tree.kind == "file":
        return DataError(
            f"{tree.path} is only a part of {what}: it lacks {names}; pass the folder that holds all parts."
        )
    return DataError(
        f"{tree.path} lacks {names} of {what}, or has only part of it; put all parts into one "
        "folder and pass that folder."
    )


def check_names(path: Path, names: Iterable[str]) -> None:
    """Refuse an archive with a member that would leave its folder."""
    for name in names:
        if re.match(r"[/\\]|[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
            raise DataError(
                f"{path} has a member {shortened(name)!r} that points outside the archive; do not trust it."
            )


def check_size(size: int, path: Path, name: str) -> None:
    """Refuse a file that is larger than any image or list."""
    if size > MAX_MEMBER_BYTES:
        raise DataError(
            f"{where(path, name)} has {size:,} bytes; images and lists may have up to "
            f"{MAX_MEMBER_BYTES:,}: make it smaller, or get a fresh copy."
        )


def normalized(name: str) -> str:
    """Return the name of an archive's member without redundant dots and slashes: ./a//b is a/b."""
    return posixpath.normpath(name)


def visible(names: Iterable[str]) -> list[str]:
    """Sort names, and leave out hidden ones."""
    return sorted(name for name in names if not is_hidden(name))


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder with a slash behind it, is hidden or one of macOS's shadow files."""
    return re.search(r"(^|/)(\.|__MACOSX/)", name) is not None


def file_sha256(path: Path) -> str:
    """Return the checksum of a file."""
    with readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_sha256(digests: Mapping[str, str]) -> str:
    """Return the checksum of a list of checksums, written as `sha256sum` does."""
    lines = [f"{digest}  {name}\n" for name, digest in sorted(digests.items())]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


@contextmanager
def readable(path: Path, name: str = "") -> Iterator[None]:
    """Turn whatever reading or parsing a file raises into one sentence that names it.

    The input may be hostile, and parsers then raise nearly anything, from IndexError to MemoryError.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise complaint(error, path, name) from error


def complaint(error: Exception, path: Path, name: str = "") -> DataError:
    """Return the sentence on what reading or parsing a file has raised."""
    if isinstance(error, OSError) and error.errno in FULL:  # only temporary files are written to here
        return NoRoom(
            f"{where(path, name)} could not be unpacked to the temporary folder {tempfile.gettempdir()} "
            f"({error.strerror}); free some space there, or choose another folder with TMPDIR."
        )
    kind = Damaged if is_of_content(error) else DataError
    return kind(f"{where(path, name)} cannot be read ({_reason(error)}); check it or get a fresh copy.")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return "more files must be open at once than the system allows; raise the limit with `ulimit -n`"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError | RecursionError):
        return "it needs more memory than there is"
    return "cut short" if isinstance(error, EOFError) and not str(error) else first_line(error)

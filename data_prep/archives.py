"""One read-only view of a folder, a zip or a tar: names and bytes, nothing extracted.

Archives are hostile until shown otherwise: a member that would leave the archive's folder condemns the whole
archive, links and special files are passed over, and no member larger than a limit is unpacked.
"""

import gzip
import hashlib
import os
import re
import tarfile
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from data_prep.errors import DataError

# Far above any image file, far below what would hurt.
MAX_MEMBER_BYTES = 64 << 20

# Images hardly shrink under gzip; its format allows a thousandfold, which only bombs come near.
_MAX_RATIO = 100

_ARCHIVE_ERRORS = (
    OSError,
    EOFError,
    RuntimeError,  # zipfile: a password is needed; NotImplementedError: an unknown compression
    ValueError,
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)


class Tree(ABC):
    """Files by name, a relative path with slashes; a context manager.

    Attributes: `path`, where it is; `kind`, "folder", "zip" or "tar", said to people.
    """

    kind: str

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all regular files, sorted, without hidden ones and macOS's shadow files."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return a file's bytes; DataError where it is damaged or larger than MAX_MEMBER_BYTES."""

    @abstractmethod
    def sha256(self) -> str:
        """Return the checksum of an archive, or, for a folder, of a list of the files read so far.

        That list has lines as `sha256sum` writes them, "<sha256>  <name>", sorted by name.
        """

    def close(self) -> None:  # noqa: B027  a folder has nothing to close
        """Close what is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class FolderTree(Tree):
    """A folder on disk; links are followed, since people link datasets together."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._read: dict[str, str] = {}

    def names(self) -> list[str]:
        """Return the names of all regular files below the folder."""
        found: list[str] = []
        pending, seen = [""], set[str]()
        while pending:
            prefix = pending.pop()
            with _readable(self.path / prefix):
                real = os.path.realpath(self.path / prefix)
                if real in seen:  # links can make a circle
                    continue
                seen.add(real)
                for entry in os.scandir(real):
                    if entry.is_dir():
                        pending.append(f"{prefix}{entry.name}/")
                    elif entry.is_file():
                        found.append(prefix + entry.name)
        return _visible(found)

    def read(self, name: str) -> bytes:
        """Return a file's bytes, and remember their checksum."""
        with _readable(self.path / name):
            path = self.path / name
            _check_size(path.stat().st_size, self.path, name)
            data = path.read_bytes()
        self._read[name] = hashlib.sha256(data).hexdigest()
        return data

    def sha256(self) -> str:
        """Return the checksum of the list of files read so far."""
        return _list_sha256(self._read)


class ZipTree(Tree):
    """A zip archive."""

    kind = "zip"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with _readable(path):
            self._zip = zipfile.ZipFile(path)
        _check_names(path, self._zip.namelist())

    def names(self) -> list[str]:
        """Return the names of all files in the archive."""
        return _visible(info.filename for info in self._zip.infolist() if not info.is_dir())

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""
        with _readable(self.path, name):
            _check_size(self._zip.getinfo(name).file_size, self.path, name)
            return self._zip.read(name)  # never more than the declared size, and its CRC is checked

    def sha256(self) -> str:
        """Return the checksum of the archive."""
        return _file_sha256(self.path)

    def close(self) -> None:
        """Close the archive."""
        self._zip.close()


class TarTree(Tree):
    """A tar archive, plain or under gzip."""

    kind = "tar"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with _readable(path):
            self._file = _ungzipped(path)
            try:
                with _readable(path):
                    self._tar = tarfile.TarFile(fileobj=self._file)
                    self._members = {member.name: member for member in self._tar if member.isreg()}
                _check_names(path, self._members)
            except BaseException:
                self._file.close()
                raise

    def names(self) -> list[str]:
        """Return the names of all regular files in the archive."""
        return _visible(self._members)

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""
        with _readable(self.path, name):
            member = self._members[name]
            _check_size(member.size, self.path, name)
            file = self._tar.extractfile(member)
            data = file.read() if file else b""
            if len(data) != member.size:
                raise EOFError("it is cut short")
            return data

    def sha256(self) -> str:
        """Return the checksum of the archive."""
        return _file_sha256(self.path)

    def close(self) -> None:
        """Close the archive."""
        self._tar.close()
        self._file.close()


class MountedTree(Tree):
    """A folder whose zip and tar archives are looked into as if they were folders of their own."""

    kind = "folder of archives"

    def __init__(self, folder: FolderTree) -> None:
        super().__init__(folder.path)
        self._folder = folder
        self._archives: dict[str, Tree] = {}
        self._used: set[str] = set()
        try:
            for entry in sorted(folder.path.iterdir()):
                if entry.is_file() and not entry.name.startswith(".") and is_archive(entry):
                    self._archives[entry.name] = open_tree(entry)
        except BaseException:
            self.close()
            raise

    def names(self) -> list[str]:
        """Return the names of the folder's files, and ARCHIVE/NAME for those in its archives."""
        inside = [f"{mount}/{name}" for mount, tree in self._archives.items() for name in tree.names()]
        return sorted([*self._folder.names(), *inside])

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        mount, _, rest = name.partition("/")
        if mount not in self._archives:
            return self._folder.read(name)
        self._used.add(mount)
        return self._archives[mount].read(rest)

    def sha256(self) -> str:
        """Return the checksum of the list of the archives that were used."""
        return _list_sha256({mount: self._archives[mount].sha256() for mount in self._used})

    def close(self) -> None:
        """Close the archives."""
        for tree in self._archives.values():
            tree.close()


def open_tree(path: Path) -> Tree:
    """Open a folder, a zip, a tar or a tar.gz, told apart by content; DataError where it is none of them."""
    if not path.exists():
        raise DataError(f"There is no file or folder {path}; check the path.")
    if path.is_dir():
        return FolderTree(path)
    with _readable(path), path.open("rb") as file:
        magic = file.read(4)
    if magic in (b"PK\3\4", b"PK\5\6"):
        return ZipTree(path)
    if is_archive(path):
        return TarTree(path)
    raise DataError(f"{path} is neither a folder nor a zip, tar or tar.gz archive; pass one of these.")


def is_archive(path: Path) -> bool:
    """Whether a file starts as a zip, a gzip or a tar does."""
    with _readable(path), path.open("rb") as file:
        head = file.read(512)
    return head.startswith((b"PK\3\4", b"PK\5\6", b"\x1f\x8b")) or head[257:262] == b"ustar"


def _ungzipped(path: Path) -> IO[bytes]:
    """Open a file for reading at any place; gzip is first undone into a temporary file without a name."""
    file = path.open("rb")
    if file.read(2) != b"\x1f\x8b":
        file.seek(0)
        return file
    with file:
        file.seek(0)
        limit = _MAX_RATIO * path.stat().st_size + MAX_MEMBER_BYTES
        plain = tempfile.TemporaryFile()  # noqa: SIM115  closed by the tree that reads it
        try:
            with gzip.open(file) as packed:
                while block := packed.read(1 << 20):
                    plain.write(block)
                    if plain.tell() > limit:
                        raise DataError(
                            f"{path} unpacks to over {_MAX_RATIO} times its size; it is not what it says."
                        )
        except BaseException:
            plain.close()
            raise
    plain.seek(0)
    return plain


def _check_names(path: Path, names: Iterable[str]) -> None:
    for name in names:
        if re.match(r"[/\\]|[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
            raise DataError(f"{path} has a member {name!r} that points out of it; do not trust this archive.")


def _check_size(size: int, path: Path, name: str) -> None:
    if size > MAX_MEMBER_BYTES:
        raise DataError(
            f"{path}: {name} has {size:,} bytes, which no image of this dataset has; get it again."
        )


def _visible(names: Iterable[str]) -> list[str]:
    hidden = re.compile(r"(^|/)(\.|__MACOSX/)")
    return sorted(name for name in names if not hidden.search(name.removeprefix("./")))


def _file_sha256(path: Path) -> str:
    with _readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _list_sha256(digests: Mapping[str, str]) -> str:
    lines = [f"{digest}  {name}\n" for name, digest in sorted(digests.items())]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


@contextmanager
def _readable(path: Path, name: str = "") -> Iterator[None]:
    """Turn what reading raises into one sentence that names the file."""
    try:
        yield
    except _ARCHIVE_ERRORS as error:
        where = f"{path}: {name}" if name else f"{path}"
        reason = (
            error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "cut short"
        )
        raise DataError(f"{where} cannot be read ({reason}); check it or get it again.") from error

"""A disk that loses power: what it may hold afterwards, found from what a program did to a folder.

What was written to a file and not flushed may be there, torn, zeros, or missing. A name that was given, taken
or changed in a folder that was not flushed since may be the old or the new one, each by itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest

Tree = dict[str, bytes]
"""The files below a folder by their paths."""

Names = dict[str, int]
"""What a folder holds: numbers of files and folders by name."""

_CALLS = ("fsync", "replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir")
_UNFLUSHED: tuple[Callable[[bytes], bytes], ...] = (
    lambda tail: tail,
    lambda tail: b"",
    lambda tail: tail[: len(tail) // 2],
    lambda tail: bytes(len(tail)),
)


@dataclass(frozen=True)
class Moment:
    """A moment at which the power may go: what is certain, what is not, and what was promised until then."""

    names: dict[int, Names]
    changes: list[tuple[int, dict[str, int | None]]]
    flushed: dict[int, bytes]
    written: dict[int, bytes]
    promised: Any

    def trees(self) -> Iterator[Tree]:
        """What may be on the disk."""
        for happened in product((False, True), repeat=len(self.changes)):
            folders = {number: dict(names) for number, names in self.names.items()}
            for (folder, change), real in zip(self.changes, happened, strict=True):
                if real:
                    for name, number in change.items():
                        folders.setdefault(folder, {}).pop(name, None)
                        if number is not None:
                            folders[folder][name] = number
            for unflushed in _UNFLUSHED:
                yield dict(self._files(folders, 0, "", unflushed))

    def _files(
        self, folders: dict[int, Names], folder: int, where: str, unflushed: Callable[[bytes], bytes]
    ) -> Iterator[tuple[str, bytes]]:
        for name, number in folders.get(folder, {}).items():
            if number not in self.written:
                yield from self._files(folders, number, f"{where}{name}/", unflushed)
                continue
            certain, whole = self.flushed.get(number, b""), self.written[number]
            if not whole.startswith(certain):
                certain = b""
            yield where + name, certain + unflushed(whole[len(certain) :])


@dataclass
class Disk:
    """Watches a folder. Files and folders get numbers of their own, the folder itself 0."""

    root: Path
    promised: Any = None
    moments: list[Moment] = field(default_factory=list)
    _certain: dict[int, Names] = field(default_factory=dict)
    _changes: list[tuple[int, dict[str, int | None]]] = field(default_factory=list)
    _flushed: dict[int, bytes] = field(default_factory=dict)
    _written: dict[int, bytes] = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)
    _known: dict[int, Names] = field(default_factory=dict)
    _count: int = 0

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Follow each call that flushes something or changes a name from now on; what is there is certain."""
        self._look()
        self._certain, self._changes = self._known, []
        self._flushed = dict(self._written)
        self.moments.clear()
        for name in _CALLS:
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self._look()  # at files that were made and written to since
            found = call(*arguments, **options)
            if name == "fsync":
                self._flush(arguments[0])
            self._look()
            return found

        return watched

    def _flush(self, handle: int) -> None:
        status = os.fstat(handle)
        number = 0 if os.path.samestat(status, self.root.stat()) else self._numbers.get(status.st_ino)
        if number is None:
            return  # somewhere else
        if stat.S_ISDIR(status.st_mode):
            self._certain = self._certain | {number: self._known[number]}
            self._changes = [change for change in self._changes if change[0] != number]
        else:
            self._flushed = self._flushed | {number: self._written[number]}

    def _look(self) -> None:
        """Take in how the folder is now: each name that is another than before is a change."""
        known: dict[int, Names] = {}
        inodes: dict[int, int] = {}
        self._scan(self.root, 0, known, inodes)
        self._numbers = inodes
        for folder, names in known.items():
            before = self._known.get(folder, {})
            odd = {name: names.get(name) for name in {*before, *names} if before.get(name) != names.get(name)}
            if None in odd.values():
                self._changes = [*self._changes, (folder, odd)]
            else:
                self._changes = [*self._changes, *((folder, {name: number}) for name, number in odd.items())]
        self._known = known
        self._certain = {folder: {} for folder in known} | self._certain
        moment = Moment(self._certain, self._changes, self._flushed, dict(self._written), self.promised)
        self.moments.append(moment)

    def _scan(self, folder: Path, number: int, known: dict[int, Names], inodes: dict[int, int]) -> None:
        known[number] = {}
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            inode = entry.inode()
            if inode not in inodes:
                # A number that was not in use a moment ago may be that of another file by now.
                inodes[inode] = self._numbers.get(inode) or self._new()
            known[number][entry.name] = inodes[inode]
            if entry.is_dir(follow_symlinks=False):
                self._scan(Path(entry.path), inodes[inode], known, inodes)
            else:
                self._written[inodes[inode]] = Path(entry.path).read_bytes()

    def _new(self) -> int:
        self._count += 1
        return self._count


def write_tree(folder: Path, tree: Tree) -> None:
    """Make the files of a tree in a folder."""
    for path, content in tree.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

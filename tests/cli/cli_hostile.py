"""Run folders from strangers: odd files, and commands tried on them."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from cli_support import Result
from peak_memory import forget_peak, peak_memory

RESUME = ["meta-train", "--run", "odd", "--resume", "-q", "--no-figures"]
EVALUATE = ["evaluate", "odd", "--tasks", "4", "--no-figures", "-q"]
REPORT = ["report", "odd", "-q"]
AGAIN = ["meta-train", "--config", "runs/odd/config.toml", "--run", "new", "-q"]

_MOST_MEMORY = 200 << 20


def states(folder: Path) -> dict[str, tuple[int, ...]]:
    """Everything below a folder, without a look into it."""
    found = {}
    for path in folder.rglob("*"):
        s = path.lstat()
        known = (s.st_mode, s.st_ino)
        found[str(path)] = known if stat.S_ISDIR(s.st_mode) else (*known, s.st_size, s.st_mtime_ns)
    return found


class Attacks:
    """Tries commands on an odd copy of a run, and keeps what did not end well in ``faults``."""

    def __init__(self, pamela: Callable[..., Result], world: Path, source: str) -> None:
        self._pamela, self._world, self._source = pamela, world, source
        self.run = world / "runs" / "odd"
        self.faults: list[str] = []

    def fresh(self, *without: str) -> Path:
        """A new copy of the run, but for some files; without its summary it is not finished."""
        if self.run.exists():
            shutil.rmtree(self.run)
        shutil.copytree(self._world / "runs" / self._source, self.run)
        for name in without:
            (self.run / name).unlink()
        return self.run

    def refused(self, what: str, command: list[str], *parts: str) -> None:
        """The command must fail with a sentence that has the parts, and change nothing."""
        self._try(what, command, lambda result: result.error(result.code, *parts))

    def endured(self, what: str, command: list[str], *parts: str) -> None:
        """The command must do its work, and say the parts on the way."""

        def judge(result: Result) -> None:
            said = result.ok().err
            assert all(part in said for part in parts), said

        self._try(what, command, judge)

    def harmless(self, what: str, command: list[str]) -> None:
        """The command may do either."""
        self._try(what, command, lambda result: result.code and result.error(result.code))

    def _try(self, what: str, command: list[str], judge: Callable[[Result], object]) -> None:
        before = states(self._world)
        forget_peak()
        memory = peak_memory()
        result = self._pamela(*command)
        try:
            judge(result)
            assert "Traceback" not in result.err
            assert result.code in (0, 1, 2)
            assert result.code == 0 or states(self._world) == before, "something was changed"
            assert peak_memory() - memory < _MOST_MEMORY, "it took much memory"
        except AssertionError as fault:
            self.faults.append(f"{what}: {' '.join(command[:3])}: {fault}")


# What is no file -------------------------------------------------------------------------------------


def _link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2 << 30)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


NO_FILES: dict[str, Callable[[Path], None]] = {
    "a link to a file": _link_to("/etc/passwd"),
    "a link to zeros": _link_to("/dev/zero"),
    "a link to a folder": _link_to("/etc"),
    "a pipe": os.mkfifo,
    "a socket": _socket,
    "a folder": Path.mkdir,
    "2 GiB of nothing": _sparse,
}
"""What may lie in place of a file: each is made at a path."""


def replaced(path: Path, kind: str) -> None:
    """Put one of them there."""
    path.unlink()
    NO_FILES[kind](path)

"""What all tests rest on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine may pause anywhere: how long an example takes tells nothing.
settings.register_profile("pamela", deadline=None)
settings.load_profile("pamela")

# What a shell starts in the background ignores Ctrl-C, and so do all that it starts: the tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Folders that are made once for all workers of pytest-xdist, and that nobody changes afterwards.

    The first to ask for a name makes its folder, by the function that is given; the others wait for it.
    """
    place = tmp_path_factory.getbasetemp()
    if os.name == "posix" and "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # every worker has a folder of its own in there

    def get(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = place / f"once-{name}", place / f"once-{name}.done"
        with alone(place / f"once-{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed to make it
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def glyphs(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Path of the store that `pamela prepare glyphs --force` made of another file.

    The command's document is beside it, in ``out.json``.
    """

    def make(folder: Path) -> None:
        out = folder / "glyphs.h5"
        out.write_text("something else")
        command = [sys.executable, "-m", "pamela_cli", "prepare", "glyphs", "--out", str(out), "--force"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("PAMELA_")}
        done = subprocess.run([*command, "--json"], cwd=folder, env=env, check=True, capture_output=True)
        (folder / "out.json").write_bytes(done.stdout)

    return made_once("glyphs", make) / "glyphs.h5"


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are laid out, as when they are drawn, but not painted: that takes three times as long."""
    from matplotlib.figure import Figure

    def lay_out(figure: Figure, path: Path, **_: object) -> None:
        figure.draw_without_rendering()
        path.write_text("a sketch")

    monkeypatch.setattr(Figure, "savefig", lay_out)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process is in such a block, and keep others out."""
    with lock.open("w") as file:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield

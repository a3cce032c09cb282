"""Running `pamela` in the tests: in this process, in a fresh one, or forked from a warm interpreter."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import typer
from safetensors import safe_open

from data_prep.store import SPLITS, Origin, SplitContent, write_store
from pamela_cli import cli

SINE = ["--dataset", "sine", "--width", "8", "--val-tasks", "4", "--test-tasks", "4", "--no-figures"]
TINY = [
    *("--dataset", "tiny", "--width", "4", "--steps", "2", "--meta-batch", "2", "--query", "15"),
    *("--inner-lr", "0.3", "--val-tasks", "4", "--test-tasks", "4", "--no-figures"),
]
QUICK_SINE = ["meta-train", *SINE, "--iterations", "10", "--val-every", "5"]
QUICK_TINY = ["meta-train", *TINY, "--iterations", "4", "--val-every", "2"]
TIMING = ("seconds", "tasks_per_second")
"""What differs between two runs of the same bits."""

PATIENCE = 60.0


@dataclass(frozen=True)
class Result:
    """What a command did: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Stdout as the one JSON document that ``--json`` promises."""
        return json.loads(self.out)

    def ok(self) -> Result:
        """Itself, if the command succeeded."""
        assert self.code == 0, self.err
        return self

    def error(self, code: int, *parts: str) -> str:
        """The one sentence on stderr with which the command failed; ``parts`` must be in it."""
        lines = self.err.splitlines()
        assert len(lines) == 1, f"not one sentence: {self.err!r}"
        message = lines[0]
        assert message.startswith("error: "), message
        assert message.endswith((".", "?")), message
        assert not message.startswith("error: unexpected "), message
        assert "Traceback" not in message, message
        assert self.out == ""
        for part in parts:
            assert part in message, f"{part!r} is not in {message!r}"
        assert self.code == code, f"exit code {self.code}, not {code}: {message}"
        return message


# This process -----------------------------------------------------------------------------------------


@cache
def command_line() -> Any:
    """What typer makes of the commands: once for a process, which outside the tests runs one."""
    cli.run(["--version"])  # registers the commands
    return typer.main.get_command(cli.app)


# Processes -------------------------------------------------------------------------------------------

_FRESH = [sys.executable, "-m", "pamela_cli"]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what would change the output of `pamela`."""
    names = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS", "LINES")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PAMELA_") and k not in names}
    return kept | {"TERM": "xterm", "CUDA_VISIBLE_DEVICES": ""} | dict(extra or {})  # GPUs have own tests


def fresh(cwd: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Result:
    """Run `python -m pamela_cli` in a process of its own."""
    done = subprocess.run(
        [*_FRESH, *arguments],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


class Job:
    """A command running in a process forked by :class:`WarmProcesses`."""

    def __init__(self, owner: WarmProcesses, process: int, out: Path, err: Path) -> None:
        self._owner, self.process, self._out, self._err = owner, process, out, err
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code as a shell shows it, or None while it runs."""
        if self._code is None:
            self._code = self._owner.ask({"poll": self.process})
        return self._code

    def send(self, number: int) -> None:
        """Send a signal."""
        if self.poll() is None:
            os.kill(self.process, number)

    def when(self, ready: Callable[[], bool]) -> Job:
        """Wait until ``ready`` or the end of the process."""
        deadline = time.monotonic() + PATIENCE
        for turn in itertools.count():
            # The end is asked for now and then only: answers cost the machine what the process could use.
            if ready() or (turn % 10 == 0 and self.poll() is not None):
                break
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.001)
        return self

    def wait(self) -> Result:
        """Wait for its end."""
        deadline = time.monotonic() + PATIENCE
        while self.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(0.01)
        assert self._code is not None
        return Result(self._code, self._out.read_text(), self._err.read_text())


class WarmProcesses:
    """Processes that have torch imported when they start: forked from one that waits for orders.

    Each command gets a process of its own, with its own folder, environment, output and signals; a
    tenth of a second instead of the seconds that the imports take.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        server = Path(__file__).with_name("cli_warm_server.py")
        self._server = subprocess.Popen(
            [sys.executable, str(server)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
        )

    def ask(self, order: dict[str, Any]) -> Any:
        """Give an order and return the answer."""
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps(order).encode() + b"\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(
        self,
        cwd: Path,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        terminal: str | None = None,
        powerless: bool = False,
        file_limit: int | None = None,
    ) -> Job:
        """Start a command; its stderr, and its stdout, go to ``terminal`` if there is one.

        A ``powerless`` one obeys access rights even where the tests run as root. With a ``file_limit`` no
        file can grow beyond so many bytes.
        """
        self._count += 1
        out, err = (self._folder / f"{self._count}.{name}" for name in ("out", "err"))
        for file in (out, err):
            file.touch()
        order = {
            "arguments": arguments,
            "cwd": str(cwd),
            "env": environment(env),
            "out": terminal or str(out),
            "err": terminal or str(err),
            "powerless": powerless,
            "file_limit": file_limit,
        }
        return Job(self, self.ask(order), out, err)

    def __call__(self, cwd: Path, *arguments: str, **options: Any) -> Result:
        """Run a command to its end."""
        return self.start(cwd, *arguments, **options).wait()

    def close(self) -> None:
        """Let the server end."""
        assert self._server.stdin and self._server.stdout
        self._server.stdin.close()
        self._server.wait(PATIENCE)
        self._server.stdout.close()


# Files -----------------------------------------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, str]:
    """Everything under a folder: the checksum of each file, and the subfolders."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [without_timing(json.loads(line)) for line in lines]


def without_timing(document: dict[str, Any]) -> dict[str, Any]:
    """A document without what depends on the clock."""
    return {key: value for key, value in document.items() if key not in TIMING}


def nameless_summary(run: Path) -> dict[str, Any]:
    """summary.json without what depends on the clock, and without the run's name."""
    document = without_timing(json.loads((run / "summary.json").read_text()))
    for part in (document, document["val"], document["test"]):
        assert part.pop("run") == run.name
    return document


def tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """The tensors of a checkpoint: type, shape and bytes by name."""
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return {name: (str(a.dtype), a.shape, a.tobytes()) for name, a in arrays.items()}


def assert_same_run(run: Path, reference: Path) -> None:
    """Two runs came to the same bits."""
    assert metrics(run) == metrics(reference)
    assert tensors(run / "last.safetensors") == tensors(reference / "last.safetensors")
    assert (run / "best.safetensors").read_bytes() == (reference / "best.safetensors").read_bytes()
    assert nameless_summary(run) == nameless_summary(reference)


def lines_in(path: Path) -> int:
    """The whole lines of a file that may not be there."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_at_random(job: Job, most: float) -> None:
    """SIGKILL a process after a random time; pytest-randomly prints the seed that repeats it."""
    time.sleep(random.uniform(0, most))
    job.send(signal.SIGKILL)
    job.wait()


# Stores ----------------------------------------------------------------------------------------------


def write_tiny_store(
    out: Path,
    *,
    counts: Sequence[int] = (20,) * 6,
    size: int = 16,
    channels: int = 1,
    seed: int = 0,
    dataset: str = "made-up",
) -> Path:
    """Write a store whose classes are patterns, noisy enough not to be learned at once."""
    rng = np.random.default_rng(seed)

    def split() -> SplitContent:
        patterns = rng.normal(size=(len(counts), 1, size, size, channels))

        def blocks() -> Iterator[tuple[int, Any]]:
            for label, count in enumerate(counts):
                noisy = patterns[label] + rng.normal(size=(count, size, size, channels))
                yield label, (128 + 40 * noisy).clip(0, 255).astype(np.uint8)

        return SplitContent([f"class{label:02}" for label in range(len(counts))], blocks(), sum(counts))

    origin = Origin(dataset, "arrays of a test", lambda: "0" * 64, "nobody", "none")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_store(out, origin, {name: split() for name in SPLITS}, image_size=size, channels=channels)
    return out

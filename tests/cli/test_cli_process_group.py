"""Processes beside the first one: started, ended and told apart, without training."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from cli_support import PATIENCE, SINE, snapshot

from pamela_cli import children, process_group
from pamela_cli.config import Settings, resolve
from pamela_cli.console import Console
from pamela_cli.context import Context
from pamela_cli.engine.processes import Processes, ProcessLostError
from pamela_cli.errors import PamelaError, UsageError
from pamela_cli.runs import create_run

NAMES = ["cpu", "cpu", "cpu"]
CONFIG = resolve([Settings({"dataset": "sine"})])


@pytest.fixture
def sleeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followers that do nothing but wait for their end, and have said much."""
    code = "import sys, time; sys.stderr.write('x' * (1 << 20) + '\\nerror: the last words.'); time.sleep(60)"
    monkeypatch.setattr(process_group, "python", lambda *_: [sys.executable, "-S", "-c", code])


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


@pytest.mark.usefixtures("sleeping")
def test_followers_end_whatever_breaks_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C, say, while the first of them is ended."""
    before, kill = dict(os.environ), subprocess.Popen.kill
    killed = []

    def interrupted(process: subprocess.Popen[bytes]) -> None:
        kill(process)
        killed.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "kill", interrupted)
    with pytest.raises(KeyboardInterrupt), process_group._started(NAMES, ()) as followers:
        assert os.environ["WORLD_SIZE"] == "3" and os.environ["RANK"] == "0"
        raise ValueError("a fault")
    assert [process.pid for process in killed] == [each.process.pid for each in reversed(followers)]
    assert all(each.process.poll() is not None for each in followers)
    assert dict(os.environ) == before


@pytest.mark.usefixtures("sleeping")
def test_the_port_is_held_before_anybody_is_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "_ENDING", 0.0)
    with process_group._started(NAMES, ()):
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        with socket.socket() as another, pytest.raises(OSError, match="in use"):
            another.bind(address)
        socket.create_connection(address).close()


@pytest.mark.usefixtures("sleeping")
def test_the_last_words_of_one_that_has_said_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "_ENDING", PATIENCE)
    with process_group._started(NAMES, ()) as followers:
        for each in followers:
            wait_until(lambda each=each: each.said.seek(0, os.SEEK_END) > 1 << 20)
            each.process.terminate()
        assert process_group._lost(followers) == "process 1 on cpu failed: the last words."


def test_one_that_ends_before_it_has_come_is_not_waited_for(
    pamela, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys; sys.exit('error: there is no such device.')"
    monkeypatch.setattr(process_group, "python", lambda *_: [sys.executable, "-S", "-c", code])
    command = ["meta-train", *SINE, "--meta-batch", "3", "--device", "cpu,cpu,cpu"]
    pamela(*command).error(1, "process 1 on cpu failed: there is no such device", "--resume")
    assert snapshot(here) == {}


def test_a_follower_ends_when_the_first_process_is_killed(tmp_path: Path) -> None:
    """The first one holds the other end of its stdin."""
    waiting = "import time; from pamela_cli.children import end_with_parent, python; "
    follower = waiting + "import threading; threading.Thread(target=end_with_parent).start(); time.sleep(60)"
    first = waiting + (
        f"import subprocess; p = subprocess.Popen(python({follower!r}), stdin=subprocess.PIPE); "
        "print(p.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(children.python(first), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        started = int(process.stdout.readline())
        process.kill()
    wait_until(lambda: not is_running(started))


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    if status.exists():
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return not Path("/proc/self").exists()


def test_nothing_is_imported_from_the_folder_that_a_process_is_started_in(tmp_path: Path) -> None:
    for name in ("pamela_cli.py", "json.py", "torch.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    command = children.python("import pamela_cli.children; print(sys.argv[1:])", "--run", "x y")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "['--run', 'x y']\n"


@pytest.mark.parametrize("name", process_group._NUMBERS)
def test_an_environment_that_torchrun_did_not_make(
    pamela, here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "two")
    pamela("meta-train", *SINE).error(2, f"the environment variable {name} is 'two'")
    assert snapshot(here) == {}


def test_processes_that_see_different_checkpoints(
    pamela, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that is slow to tell, say; together they would train on nonsense."""
    short = ["meta-train", *SINE, "--iterations", "2", "--val-every", "1", "--run", "mine", "-q"]
    pamela(*short).ok()
    (here / "runs/mine/summary.json").unlink()
    before = snapshot(here)
    told = Processes.from_leader
    monkeypatch.setattr(Processes, "from_leader", lambda self, value: 1 if value == 2 else told(self, value))
    wrong = pamela("meta-train", "--run", "mine", "--resume", "-q")
    wrong.error(1, "runs/mine", "step 2 for one process, but of step 1", "the same folder")
    assert snapshot(here) == before


@pytest.mark.parametrize("name", ["mine", None])
def test_starts_at_the_same_moment(here: Path, name: str | None) -> None:
    """One makes the folder, and the others hear of it, or take the next free name."""
    made: list[str] = []
    together = threading.Barrier(8)

    def start() -> None:
        together.wait()
        try:
            made.append(create_run(here / "runs", name, CONFIG, {"plan": {"device": "cpu"}}).name)
        except UsageError as error:
            made.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folders = sorted(path.name for path in (here / "runs").iterdir())
    if name:
        assert folders == ["mine"] and made.count("mine") == 1
        assert sum("already exists" in each for each in made) == 7
    else:
        usual = "pamela-sine-1s-s0"
        assert folders == sorted(made) == sorted([usual, *(f"{usual}-{i}" for i in range(2, 9))])
    assert all((here / "runs" / folder / "config.toml").exists() for folder in folders)


@pytest.mark.parametrize(
    ("kind", "fails", "parting"),
    [("cpu", False, "waits"), ("cpu", True, "waits"), ("cuda", False, "waits"), ("cuda", True, "gives up")],
)
def test_sums_of_nccl_that_never_end_are_given_up(
    monkeypatch: pytest.MonkeyPatch, kind: str, fails: bool, parting: str
) -> None:
    partings: list[str] = []
    monkeypatch.setattr(process_group.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(process_group.dist, "destroy_process_group", lambda: partings.append("waits"))
    monkeypatch.setattr(
        process_group.dist.distributed_c10d, "_abort_process_group", lambda: partings.append("gives up")
    )
    monkeypatch.setattr(Processes, "join", lambda device, look: Processes())
    context = Context(Console(quiet=True), Path("data"), Path("runs"), Settings({}))
    with suppress(PamelaError), process_group._met(context, torch.device(kind)):
        if fails:
            raise ProcessLostError("it has ended")
    assert partings == [parting]


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_library_says_while_processes_meet_is_not_among_the_results(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fails: bool
) -> None:
    """PyTorch 2.9's gloo writes whom it has met, below Python, to the standard output."""
    for name in ("RANK", "LOCAL_RANK", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("WORLD_SIZE", "2")

    def meet(*_: object, **__: object) -> None:
        os.write(1, b"[Gloo] Rank 0 is connected to 1 peer ranks.\n")
        if fails:
            raise RuntimeError("the other has ended")

    monkeypatch.setattr(torch.distributed, "rendezvous", lambda *_, **__: iter([(None, 0, 2)]))
    monkeypatch.setattr(torch.distributed, "PrefixStore", lambda *_: None)
    monkeypatch.setattr("pamela_cli.engine.processes._await_all", lambda *_: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", meet)
    print("before", end=" ")
    with suppress(ProcessLostError):
        Processes.join(torch.device("cpu"))
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "before after\n"

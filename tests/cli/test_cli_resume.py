"""Runs that are stopped or killed, and go on to the same bits."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_support import (
    SINE,
    TINY,
    Job,
    Result,
    assert_same_run,
    kill_at_random,
    lines_in,
    snapshot,
    write_tiny_store,
)

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
RESUME = ["meta-train", "--run", "mine", "--resume", "--no-figures"]


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing interrupted: how it was started, where it is, how long it took."""

    arguments: list[str]
    run: Path
    seconds: float

    def start(self, name: str = "mine") -> list[str]:
        """The command that starts such a run under another name."""
        return [*self.arguments, "--run", name]

    @property
    def training_lines(self) -> int:
        """Lines of metrics when training is over, and the tests begin."""
        return lines_in(self.run / "metrics.jsonl")


ARGUMENTS = {
    "sine": ["meta-train", *SINE, "--iterations", "65", "--val-every", "25", "--test-tasks", "1000"],
    "tiny": ["meta-train", *TINY, "--iterations", "16", "--val-every", "12", "--test-tasks", "30"],
}


@pytest.fixture(scope="session", params=["sine", "tiny"])
def undisturbed(request, made_once, warm) -> Undisturbed:
    arguments = ARGUMENTS[request.param]

    def train(folder: Path) -> None:
        if request.param == "tiny":
            write_tiny_store(folder / "data" / "tiny.h5")
        start = time.monotonic()
        warm(folder, *arguments, "--run", "whole").ok()
        (folder / "seconds").write_text(str(time.monotonic() - start))

    folder = made_once(f"undisturbed-{request.param}", train)
    return Undisturbed(arguments, folder / "runs" / "whole", float((folder / "seconds").read_text()))


@pytest.fixture
def mine(undisturbed: Undisturbed, here: Path) -> Path:
    """The folder of the test's own run, beside the data it needs."""
    if (data := undisturbed.run.parents[1] / "data").exists():
        shutil.copytree(data, here / "data")
    return here / "runs" / "mine"


def resume_command(err: str) -> list[str]:
    """The arguments of the command that the last line on stderr tells to go on with."""
    found = re.search(r"`(pamela .*)`", err.splitlines()[-1])
    assert found, err
    return shlex.split(found.group(1))[1:]


# A signal is heard in the same way whatever is trained: each is sent to one of the two.
@pytest.mark.parametrize(
    ("undisturbed", "number"), [("sine", signal.SIGINT), ("tiny", signal.SIGTERM)], indirect=["undisturbed"]
)
def test_stopped_and_resumed(warm, here: Path, undisturbed: Undisturbed, mine: Path, number: int) -> None:
    job = warm.start(here, *undisturbed.start())
    job.when(lambda: lines_in(mine / "metrics.jsonl") >= 1).send(number)
    result = job.wait()
    assert result.code == CODES[number], result.err
    assert result.out == ""
    last = result.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert signal.Signals(number).name in last
    assert (mine / "last.safetensors").exists()
    assert not (mine / "summary.json").exists()
    resumed = warm(here, *resume_command(result.err), "--no-figures").ok()
    assert re.search(r"continues from step \d+", resumed.err)
    assert "continues from step 0 " not in resumed.err
    assert_same_run(mine, undisturbed.run)


def test_killed_at_random_moments(warm, here: Path, undisturbed: Undisturbed, mine: Path) -> None:
    command = undisturbed.start()
    for _ in range(3):
        kill_at_random(warm.start(here, *command), undisturbed.seconds)
        if (mine / "config.toml").exists():
            command = [*undisturbed.start(), "--resume"]
    warm(here, *command).ok()
    assert_same_run(mine, undisturbed.run)
    assert not list(mine.glob(".*")), "temporary files are left"


def test_killed_before_the_first_checkpoint(warm, here: Path, undisturbed: Undisturbed, mine: Path) -> None:
    for _ in range(5):  # on a busy machine it may come too late
        job = warm.start(here, *undisturbed.start())
        job.when(lambda: lines_in(mine / "metrics.jsonl") >= 1).send(signal.SIGKILL)
        assert job.wait().code == 128 + signal.SIGKILL
        if not (mine / "last.safetensors").exists():
            break
        shutil.rmtree(mine)
    resumed = warm(here, *RESUME).ok()
    assert "continues from step 0 " in resumed.err
    assert_same_run(mine, undisturbed.run)


@pytest.mark.parametrize(
    ("undisturbed", "number"), [("sine", signal.SIGKILL), ("tiny", signal.SIGINT)], indirect=["undisturbed"]
)
def test_stopped_while_testing(warm, here: Path, undisturbed: Undisturbed, mine: Path, number: int) -> None:
    trained = undisturbed.training_lines
    for _ in range(5):  # on a busy machine it may come too late
        job = warm.start(here, *undisturbed.start())
        job.when(lambda: lines_in(mine / "metrics.jsonl") == trained).send(number)
        result = job.wait()
        if result.code:
            break
        shutil.rmtree(mine)
    assert result.code == 128 + number, result.err
    assert not (mine / "summary.json").exists()
    resumed = warm(here, *RESUME, "--json").ok()
    assert resumed.document == json.loads((mine / "summary.json").read_text())
    assert_same_run(mine, undisturbed.run)


def test_a_line_cut_short_and_no_summary(pamela, here: Path, undisturbed: Undisturbed, mine: Path) -> None:
    """What a kill right after training may leave: half a line of metrics, no summary."""
    shutil.copytree(undisturbed.run, mine)
    (mine / "summary.json").unlink()
    with (mine / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')
    pamela(*RESUME).ok()
    assert_same_run(mine, undisturbed.run)


def test_second_ctrl_c_ends_at_once(warm, own_world: Path) -> None:
    """One outer step takes many seconds here; the second Ctrl-C does not wait for its end."""
    slow = ["meta-train", *TINY, "--meta-batch", "4096", "--run", "slow"]
    run = own_world / "runs" / "slow"
    job = warm.start(own_world, *slow)
    job.when(lambda: bool(list(run.glob("events*"))))
    time.sleep(0.3)
    job.send(signal.SIGINT)
    time.sleep(0.3)
    assert job.poll() is None, "the first Ctrl-C does not wait for the step"
    start = time.monotonic()
    # On a busy machine the process may not have noticed the first when the second comes: then they are one.
    while job.poll() is None and time.monotonic() - start < 15:
        job.send(signal.SIGINT)
        time.sleep(0.5)
    assert job.poll() == 130, "it waits for the step"
    result = job.wait()
    assert result.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.err


def being_written(folder: Path) -> bool:
    """Whether a temporary file has its first bytes."""
    return any(path.stat().st_size for path in folder.iterdir())


def insist(job: Job, number: int) -> Result:
    """Send a signal until the process ends: Python loses one that comes in a weak reference's callback."""
    while job.poll() is None:
        job.send(number)
        again = time.monotonic() + 1
        job.when(lambda: time.monotonic() > again)  # noqa: B023
    return job.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_preparing(warm, here: Path, number: int) -> None:
    job = warm.start(here, "prepare", "glyphs", "--out", str(here / "letters.h5"))
    result = insist(job.when(lambda: being_written(here)), number)
    assert result.code == CODES[number], result.err
    assert result.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.err
    assert snapshot(here) == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_evaluating(warm, own_world: Path, number: int) -> None:
    before = snapshot(own_world)
    job = warm.start(own_world, "evaluate", "sine-a", "--tasks", "1000000", "-q")
    time.sleep(0.5)
    job.send(number)
    job.wait().error(CODES[number])
    assert snapshot(own_world) == before


@pytest.mark.parametrize("where", ["file", "data-dir", "name with a space"])
def test_the_command_that_resumes_does(warm, own_world: Path, where: str) -> None:
    """What a stopped run tells to type goes on, wherever the data are and whatever the run is called."""
    elsewhere = own_world / "else where"
    elsewhere.mkdir()
    shutil.move(own_world / "data" / "tiny.h5", elsewhere / "tiny.h5")
    name, source = "mine", ["--data-dir", str(elsewhere)]
    if where == "file":
        source = ["--dataset", str(elsewhere / "tiny.h5")]
    if where == "name with a space":
        shutil.move(elsewhere, own_world / "data2")
        source = ["--dataset", "sine"]
        name = "my run"
    settings = [*(SINE if source == ["--dataset", "sine"] else TINY), "--iterations", "30"]
    run = own_world / "runs" / name
    job = warm.start(own_world, "meta-train", *settings, *source, "--run", name)
    job.when(lambda: bool(list(run.glob("events*")))).send(signal.SIGINT)
    stopped = job.wait()
    assert stopped.code == 130, stopped.err
    warm(own_world, *resume_command(stopped.err), "--no-figures").ok()
    assert (run / "summary.json").exists()

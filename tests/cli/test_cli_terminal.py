"""What `pamela` draws on a terminal, Ctrl-C on one, and what it does when nobody listens."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cli_support import PATIENCE, QUICK_SINE, SINE, TINY, Job, Result, environment, fresh

from pamela_cli.console import Console


def on_terminal(warm, cwd: Path, *arguments: str, press: bytes = b"", **options: Any) -> Result:
    """Run a command on a terminal; ``press`` is typed when training is under way."""
    ours, theirs = pty.openpty()
    try:
        job: Job = warm.start(cwd, *arguments, terminal=os.ttyname(theirs), **options)
        seen = b""
        while job.poll() is None or select.select([ours], [], [], 0.05)[0]:
            if select.select([ours], [], [], 0.01)[0]:
                seen += os.read(ours, 65536)
            if press and b"loss" in seen:
                os.write(ours, press)
                press = b""
        return Result(job.wait().code, "", seen.decode())
    finally:
        os.close(ours)
        os.close(theirs)


def test_live_bar_on_a_terminal(warm, here: Path) -> None:
    run = ["meta-train", *SINE, "--iterations", "100", "--val-every", "50"]
    result = on_terminal(warm, here, *run, env={"COLUMNS": "200"})
    assert result.code == 0, result.err
    assert "\x1b[" in result.err
    assert "training" in result.err
    assert re.search(r"\d+/100", result.err), "no count of the steps"
    assert re.search(r"loss \d+\.\d+", result.err), "no loss"
    assert re.search(r"[\d.]+ tasks/s", result.err), "no rate"
    assert re.search(r"\d:\d\d:\d\d", result.err), "no time left"
    assert "step 50: validation MSE" in result.err
    assert "best MSE" in result.err


def test_bar_shows_accuracy_for_images(warm, own_world: Path) -> None:
    run = ["meta-train", *TINY, "--iterations", "12", "--val-every", "12"]
    result = on_terminal(warm, own_world, *run, env={"COLUMNS": "200"})
    assert result.code == 0, result.err
    assert re.search(r"loss \d\.\d+ \S* ?\w* ?\d+\.\d %", result.err), result.err


def test_quiet_on_a_terminal_draws_nothing(warm, here: Path) -> None:
    result = on_terminal(warm, here, *QUICK_SINE, "-q", "--json")
    assert json.loads(result.err)["iterations"] == 10


def test_ctrl_c_on_a_terminal(warm, here: Path) -> None:
    run = ["meta-train", *SINE, "--iterations", "100000", "--run", "long"]
    result = on_terminal(warm, here, *run, press=b"\x03", env={"COLUMNS": "200"})
    assert result.code == 130
    assert "pamela meta-train --run runs/long --resume" in result.err
    assert (here / "runs" / "long" / "last.safetensors").exists()
    assert "\x1b[?25h" in result.err.split("\x1b[?25l")[-1], "the cursor stays hidden"


def test_a_terminal_that_goes_away(here: Path) -> None:
    """As where a connection to another machine breaks off: all is saved, and nobody hears of it."""
    run = ["meta-train", *SINE, "--iterations", "100000", "--val-every", "100000"]
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has the tests ignore it, and all that they start
        os.chdir(here)
        os.execve(sys.executable, [sys.executable, "-m", "pamela_cli", *run], environment())
    seen, until = b"", time.monotonic() + PATIENCE
    while not re.search(rb"[1-9][0-9]+/[0-9]{6}", seen) and time.monotonic() < until:
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 65536)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 129
    assert [*here.glob("runs/*/last.safetensors")], seen


COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")


def test_no_color(warm, here: Path) -> None:
    assert COLOUR.search(on_terminal(warm, here, "evaluate", "none").err)
    assert not COLOUR.search(on_terminal(warm, here, "evaluate", "none", env={"NO_COLOR": "1"}).err)
    bar = on_terminal(warm, here, *QUICK_SINE, env={"NO_COLOR": "1"})
    assert "\x1b[" in bar.err
    assert not COLOUR.search(bar.err)


def left_alone(*arguments: str, stream: str, cwd: Path) -> int:
    """The exit code of a command whose reader of ``stream`` has gone away."""
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | {stream: writer}
    command = [sys.executable, "-m", "pamela_cli", *arguments]
    process = subprocess.Popen(command, cwd=cwd, env=environment(), **streams)
    os.close(writer)
    return process.wait(PATIENCE)


def test_a_reader_that_goes_away_is_no_error(here: Path) -> None:
    """As in `pamela … | head`, of tables and of what is printed alike."""
    assert left_alone("prepare", "--list", stream="stdout", cwd=here) == 0
    assert left_alone("prepare", "--list", "--json", stream="stdout", cwd=here) == 0


def test_the_work_goes_on_when_nobody_hears_of_it(here: Path) -> None:
    """As when the terminal of a run in the background is closed."""
    assert left_alone(*QUICK_SINE, "--run", "unheard", stream="stderr", cwd=here) == 0
    assert (here / "runs" / "unheard" / "summary.json").exists()
    assert left_alone("prepare", "none", stream="stderr", cwd=here) == 2


def test_nobody_to_print_to_is_no_error(here: Path) -> None:
    command = [sys.executable, "-m", "pamela_cli", "prepare", "--list", "--json"]
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    assert subprocess.run(closed, cwd=here, env=environment(), capture_output=True, check=True).stderr == b""


def test_a_full_disk_behind_the_output_is_an_error(here: Path) -> None:
    command = [sys.executable, "-m", "pamela_cli", "prepare", "--list", "--json"]
    full = ["sh", "-c", 'exec "$@" >/dev/full', "sh", *command]
    done = subprocess.run(full, cwd=here, env=environment(), text=True, check=False, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "error: the result could not be printed: No space left on device.\n"


def test_names_in_tables_for_programs_are_those_on_the_disk(capfdbinary) -> None:
    Console().text("photo,k\udcffä ± 1\n")
    assert capfdbinary.readouterr().out == b"photo,k\xff\xc3\xa4 \xc2\xb1 1\n"
    Console().text("half a letter: \ud800\n")
    assert capfdbinary.readouterr().out == "half a letter: \ufffd\n".encode()


def test_an_encoding_without_our_signs(own_world: Path) -> None:
    """A result must not be lost over a plus-minus sign."""
    ascii_alone = {"PYTHONIOENCODING": "ascii"}
    result = fresh(own_world, "report", "--list", env=ascii_alone).ok()
    assert "\\xb1" in result.out
    assert "tiny-a" in result.out
    assert "90\\xb0" in fresh(own_world, "meta-train", "--help", env=ascii_alone).ok().out

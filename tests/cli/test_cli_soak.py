"""Long runs: fifty kills, a death under torchrun, and memory over 20,000 iterations.

`pytest -m slow tests/cli/test_cli_soak.py`; a short form of the first is in `test_cli_resume.py`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_support import PATIENCE, SINE, TINY, assert_same_run, environment, fresh, lines_in, write_tiny_store

pytestmark = pytest.mark.slow

KILLS = 50


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["sine", "images"])
def test_fifty_kills_leave_the_same_bits_and_no_debris(warm, here: Path, kind: str) -> None:
    if kind == "sine":
        command = ["meta-train", *SINE, "--iterations", "3000", "--val-every", "30"]
    else:
        write_tiny_store(here / "data" / "tiny.h5")
        command = ["meta-train", *TINY, "--iterations", "1500", "--val-every", "10"]
    warm(here, *command, "--run", "whole").ok()
    run, chance = here / "runs" / "killed", random.Random(7)
    # Each life gets a fiftieth of the way, and ends at a random moment of what follows.
    goals = [
        (k + 1) * lines_in(here / "runs" / "whole" / "metrics.jsonl") // (KILLS + 2) for k in range(KILLS)
    ]
    for kills, goal in enumerate(goals):
        resumed = ["--resume"] if (run / "config.toml").exists() else []
        job = warm.start(here, *command, "--run", "killed", *resumed)
        job.when(lambda goal=goal: lines_in(run / "metrics.jsonl") >= goal)
        time.sleep(chance.uniform(0, 0.05))
        assert job.poll() is None, f"it ended before kill {kills + 1}"
        job.send(signal.SIGKILL)
        job.wait()
    warm(here, *command, "--run", "killed", "--resume").ok()
    assert_same_run(run, here / "runs" / "whole")
    assert not list(run.glob(".*")) and not list(here.glob("runs/.*"))


def children(process: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_torchrun_starts_all_again_when_one_dies(here: Path) -> None:
    write_tiny_store(here / "data" / "tiny.h5")
    command = ["meta-train", *TINY, "--iterations", "500", "--val-every", "100"]
    fresh(here, *command, "--run", "whole", "--device", "cpu,cpu").ok()
    elastic = "--nproc-per-node 2 --max-restarts 2 --rdzv-backend c10d --rdzv-endpoint localhost:0 -m --"
    agent = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            *elastic.split(),
            "pamela_cli",
            *command,
            "--run",
            "killed",
            "--device",
            "cpu",
        ],
        cwd=here,
        env=environment({"OMP_NUM_THREADS": "1"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = here / "runs" / "killed"
    deadline = time.monotonic() + PATIENCE
    while not (run / "last.safetensors").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(children(agent.pid)[-1], signal.SIGKILL)
    _, err = agent.communicate(timeout=2 * PATIENCE)
    assert agent.returncode == 0, err
    assert "continues from step 100" in err
    assert_same_run(run, here / "runs" / "whole")


@pytest.mark.timeout(1200)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read in /proc")
def test_memory_is_flat_over_20_000_iterations(here: Path) -> None:
    # Full-size networks would take an hour, and keep no more from step to step.
    command = ["meta-train", *SINE, "--iterations", "20000", "--val-every", "1000", "--run", "long"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pamela_cli", *command, "-q"],
        cwd=here, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    resident: dict[int, int] = {}
    while process.poll() is None:
        step = 10 * lines_in(here / "runs" / "long" / "metrics.jsonl")
        pages = Path(f"/proc/{process.pid}/statm").read_text().split()
        if pages:
            resident[step] = int(pages[1]) * os.sysconf("SC_PAGE_SIZE")
        time.sleep(0.2)
    assert process.returncode == 0
    early = max(value for step, value in resident.items() if 2000 <= step <= 4000)
    late = max(value for step, value in resident.items() if step > 16_000)
    print(f"resident at steps 2,000 to 4,000: {early >> 20} MiB, from 16,000 on: {late >> 20} MiB")
    assert late < early + (8 << 20)

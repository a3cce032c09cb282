"""Several processes at one run: the same training, and one that dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cli_support import PATIENCE, Job, Result, environment, write_tiny_store
from safetensors.torch import load_file

# An odd meta-batch, and odd numbers of tasks, for two processes.
SHAPE = [
    *("--dataset", "tiny", "--width", "4", "--steps", "2", "--meta-batch", "3", "--query", "15"),
    *("--inner-lr", "0.3", "--val-tasks", "5", "--test-tasks", "5", "--no-figures", "--precision", "float64"),
]
SHORT = ["meta-train", *SHAPE, "--iterations", "12", "--val-every", "6"]
LONG = ["meta-train", *SHAPE, "--iterations", "100000", "--val-every", "50000"]
TWO = ["--device", "cpu,cpu"]


@pytest.fixture(scope="session")
def trained(made_once, warm) -> Path:
    """A folder with a run by one process, and one by two."""

    def train(folder: Path) -> None:
        write_tiny_store(folder / "data" / "tiny.h5")
        warm(folder, *SHORT, "--run", "one", "--device", "cpu").ok()
        warm(folder, *SHORT, "--run", "two", *TWO).ok()

    return made_once("processes", train)


def numbers(run: Path) -> dict[str, torch.Tensor]:
    """What was learned; the biases that batch norm cancels are Adam's answer to rounding."""
    tensors = load_file(run / "last.safetensors")
    return {k: v for k, v in tensors.items() if not k.startswith("adam") and not k.endswith("bias")}


def assert_same_training(run: Path, other: Path) -> None:
    mine, theirs = numbers(run), numbers(other)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-10, atol=1e-10)
    records = [
        [json.loads(line) for line in (each / "metrics.jsonl").read_text().splitlines()]
        for each in (run, other)
    ]
    for one, two in zip(*records, strict=True):
        for key in one.keys() - {"tasks_per_second"}:
            assert one[key] == pytest.approx(two[key], rel=1e-10)


def test_two_train_as_one_does(trained: Path) -> None:
    assert_same_training(trained / "runs" / "one", trained / "runs" / "two")
    summaries = [json.loads((trained / "runs" / run / "summary.json").read_text()) for run in ("one", "two")]
    for split in ("val", "test"):
        assert summaries[0][split]["accuracy"] == pytest.approx(summaries[1][split]["accuracy"])


@pytest.mark.slow
def test_torchrun_starts_them_too(trained: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "-m",
        "--",
        "pamela_cli",
    ]
    done = subprocess.run(
        [*command, *SHORT, "--run", "three", "--device", "cpu", "--json"],
        cwd=trained, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == "three", "one process speaks for all"
    assert_same_training(trained / "runs" / "one", trained / "runs" / "three")


@pytest.mark.parametrize("options", [[], ["--tta"]])
def test_two_judge_as_one_does(warm, trained: Path, options: list[str]) -> None:
    ask = ["evaluate", "one", "--tasks", "7", "--no-figures", "--json", *options]
    one, two = (warm(trained, *ask, *device).ok().document for device in (["--device", "cpu"], TWO))
    # Where two have other threads inside of operators than one, they round otherwise.
    assert one["accuracy"] == two["accuracy"] and one.keys() == two.keys()
    assert one["loss_per_step"] == pytest.approx(two["loss_per_step"], rel=1e-5)


class Running:
    """A long training by two processes, and which they are."""

    def __init__(self, warm, here: Path, *arguments: str) -> None:
        write_tiny_store(here / "data" / "tiny.h5")
        self.run = here / "runs" / "long"
        self.leader: Job = warm.start(here, *LONG, "--run", "long", *arguments)
        self.leader.when((self.run / "metrics.jsonl").exists)
        assert self.leader.poll() is None
        children = Path(f"/proc/{self.leader.process}/task/{self.leader.process}/children")
        (self.follower,) = (int(number) for number in children.read_text().split())

    def end(self) -> Result:
        result = self.leader.wait()
        assert not Path(f"/proc/{self.follower}").exists()
        lines = result.err.splitlines()
        assert "long" in lines[0]
        return Result(result.code, result.out, "\n".join(lines[1:]))


linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")


@linux
def test_one_that_dies_ends_all(warm, here: Path) -> None:
    running = Running(warm, here, *TWO)
    os.kill(running.follower, signal.SIGKILL)
    running.end().error(1, "process 1 on cpu failed: SIGKILL", "--resume")


@linux
@pytest.mark.slow
def test_a_leader_that_is_killed_takes_the_others_along(warm, here: Path) -> None:
    running = Running(warm, here, *TWO)
    running.leader.send(signal.SIGKILL)
    assert running.leader.wait().code == 128 + signal.SIGKILL
    deadline = time.monotonic() + 5
    while Path(f"/proc/{running.follower}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("device", [["--device", "cpu"], pytest.param(TWO, marks=pytest.mark.slow)])
def test_a_run_of_two_goes_on_with_one_or_two(warm, trained: Path, here: Path, device: list[str]) -> None:
    shutil.copytree(trained, here, dirs_exist_ok=True)
    run = here / "runs" / "two"
    (run / "summary.json").unlink()
    for name in ("last", "previous"):
        (run / f"{name}.safetensors").unlink(missing_ok=True)
    again = warm(here, "meta-train", "--run", "two", "--resume", *device, "--no-figures", "--json").ok()
    assert "continues from step 0 " in again.err
    assert_same_training(run, trained / "runs" / "two")
    assert again.document["test"]["tasks"] == 5


@linux
@pytest.mark.parametrize("who", [pytest.param("leader", marks=pytest.mark.slow), "follower"])
def test_a_request_to_stop_reaches_all(warm, here: Path, who: str) -> None:
    running = Running(warm, here, *TWO)
    os.kill(running.leader.process if who == "leader" else running.follower, signal.SIGTERM)
    message = running.end().error(143, "everything is saved at step", "--resume --device cpu,cpu")
    step = int(message.split("at step ")[1].split(":")[0].replace(",", ""))
    checkpoint = load_file(running.run / "last.safetensors")
    assert checkpoint["adam.theta.step"] == step


@pytest.mark.parametrize(
    ("device", "part"),
    [
        ("cpu,cuda:7", "--device cuda:7"),
        ("cpu,", "--device must be auto, cpu, cuda or cuda:N, not ''"),
        ("cpu,gpu", "--device must be auto, cpu, cuda or cuda:N, not 'gpu'"),
    ],
)
def test_wrong_devices(pamela, here: Path, device: str, part: str) -> None:
    write_tiny_store(here / "data" / "tiny.h5")
    pamela(*SHORT, "--device", device).error(2, part)
    assert not (here / "runs").exists()


def test_more_processes_than_tasks(warm, here: Path) -> None:
    write_tiny_store(here / "data" / "tiny.h5")
    done = warm(here, *SHORT, "--meta-batch", "1", *TWO)
    done.error(2, "--meta-batch 1 is too small for 2 processes")
    assert not (here / "runs").exists()

"""Shares of tasks, and what several processes tell each other; in threads they cannot be, so in processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pamela_cli.engine.processes import Processes, ProcessLostError, in_group, local_rank, neighbours

PROGRAM = """
import json, sys, torch
from pamela_cli.engine.processes import Processes, ProcessLostError

here = Processes.join(torch.device("cpu"))
placed = here.placed(torch.tensor([10.0 + i for i in here.share(5)], dtype=torch.float64), 5)
total, five = here.sum([torch.full((2, 2), here.rank + 1.0, dtype=torch.float64), placed])
told = here.from_leader({"x": [1, "θ"]} if here.leads else None)
nothing = here.from_leader(None)
largest = here.largest(7 * here.rank)
if here.rank == 1:
    sys.exit()
try:
    while True:
        here.largest(0)
except ProcessLostError as error:
    lost = str(error)
print(json.dumps([here.size, total.tolist(), five.tolist(), told, nothing, largest, lost]))
"""


@given(count=st.integers(0, 300), size=st.integers(1, 20))
def test_shares_are_all_and_alike(count: int, size: int) -> None:
    shares = [Processes(rank, size).share(count) for rank in range(size)]
    assert [i for share in shares for i in share] == list(range(count))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_alone_nothing_is_asked() -> None:
    alone = Processes()
    values = torch.arange(3.0)
    assert alone.leads and alone.largest(5) == 5 and alone.from_leader("x") == "x"
    assert alone.placed(values, 3) is values
    assert alone.sum([values])[0] is values
    assert not in_group() and (local_rank(), neighbours()) == (0, 1)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_what_two_tell_each_other() -> None:
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    out, _ = processes[0].communicate(timeout=60)
    processes[1].communicate(timeout=60)
    size, total, five, told, nothing, largest, lost = json.loads(out)
    assert (size, total) == (2, [[3.0, 3.0], [3.0, 3.0]])
    assert five == [10.0, 11.0, 12.0, 13.0, 14.0]
    assert told == {"x": [1, "θ"]}
    assert (nothing, largest) == (None, 7)
    assert lost.startswith("another process of this command has ended, or cannot be reached")


def test_who_cannot_be_met_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "no port")
    with pytest.raises(ProcessLostError):
        Processes.join(torch.device("cpu"))

"""The grid on real Omniglot with a small budget, undisturbed and killed; `pytest -m slow -s` prints it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_support import environment, fresh

IMAGES = Path(os.environ.get("PAMELA_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
GRID = [
    *("ablate", "--dataset", "omniglot", "--table", "--iterations", "10", "--val-every", "10"),
    *("--val-tasks", "10", "--test-tasks", "40"),
]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not (IMAGES / "images_background.zip").exists(), reason="needs Omniglot")
def test_its_table_is_the_same_after_kills(tmp_path: Path, here: Path) -> None:
    store = tmp_path / "data" / "omniglot.h5"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pamela_cli", "prepare", "omniglot", str(IMAGES)),
            *("--out", str(store), "-q"),
        ],
        env=environment(), check=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0
    grid = [*GRID, "--data-dir", str(store.parent)]
    kills = 0
    for seconds in (15, 25):
        process = subprocess.Popen(
            [sys.executable, "-m", "pamela_cli", *grid], env=environment(), stderr=subprocess.DEVNULL
        )
        time.sleep(seconds)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills == 2, "the ablation was over before it was killed: the test shows nothing"
    tables = []
    for arguments in (grid, [*grid, "--runs-dir", "undisturbed"]):
        process = subprocess.run(
            [sys.executable, "-m", "pamela_cli", *arguments, "--json"],
            env=environment(), check=True, capture_output=True, text=True,
        )  # fmt: skip
        tables.append(json.loads(process.stdout))
    assert tables[0] == tables[1]
    assert [row["status"] for row in tables[0]["rows"]] == ["done"] * 8
    shown = fresh(here, *grid, "--iterations", "0", "--format", "markdown", "-q").out
    print("\n" + shown)
    assert shown.count("| +Q+P") == 4

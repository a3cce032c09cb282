"""The kernels' mathematics without a GPU: Triton interprets them."""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest


def triton_version() -> tuple[int, ...]:
    """(0,) where there is none."""
    try:
        return tuple(int(part) for part in version("triton").split(".")[:2])
    except PackageNotFoundError:
        return (0,)


@pytest.mark.skipif(triton_version() < (3, 9), reason="no Triton whose interpreter goes with NumPy 2.4")
def test_blocks_of_few_and_of_many_channels() -> None:
    """Three channels are one chunk; forty, with a rest, are several; both signs of scales, odd sides."""
    script = Path(__file__).with_name("interpreted_blocks.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, str(script), "3", "40"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=250)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert {block: len(results) for block, results in found.items()} == {
        "3 first": 10,
        "3": 12,
        "40 first": 10,
        "40": 12,
    }
    assert all(off < 1e-6 for results in found.values() for off in results)

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
def test_kernels_as_triton_interprets_them() -> None:
    """First blocks, whose z is not stored, and others; of few channels and of more than a chunk, with a rest.

    Both signs of scales, odd sides; smooth and constant images, whose variance is a small difference.
    """
    script = Path(__file__).with_name("interpreted_blocks.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, str(script), "3", "40"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=250)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    blocks = {"3 first": 10, "3": 12, "40 first": 10, "40": 12, "by cuDNN": 12}
    counts = blocks | {"smooth": 10, "constant": 10, "classifier": 2}
    assert {name: len(distances) for name, distances in found.items()} == counts
    limits = dict.fromkeys(found, 1e-6) | {"smooth": 5e-6, "constant": 5e-6}
    too_far = {name: max(each) for name, each in found.items() if not max(each) < limits[name]}
    assert not too_far

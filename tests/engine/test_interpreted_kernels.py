"""The kernels' mathematics without a GPU: Triton interprets them."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("triton") is None, reason="no Triton here")
def test_blocks_of_few_and_of_many_channels() -> None:
    """Three channels are one chunk; forty, with a rest, are several; both signs of scales, odd sides."""
    script = Path(__file__).with_name("interpreted_blocks.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, str(script), "3", "40"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=250)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    for channels in ("3", "40"):
        assert len(found[channels]) == 12
        assert max(found[channels]) < 1e-6

"""The commands that a page says give its results again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pamela_cli.config import Settings, resolve
from pamela_cli.report.rerun import ablate_command


@pytest.mark.parametrize("steps", [3, 5, 10])
def test_an_ablation_along_the_updates_goes_as_far_again(tmp_path: Path, steps: int) -> None:
    config = resolve([Settings({"dataset": "sine", "method": "maml", "steps": steps})])
    words = ablate_command(config, "steps", 2, [0], tmp_path).split()
    assert words[words.index("--steps") + 1] == str(steps)

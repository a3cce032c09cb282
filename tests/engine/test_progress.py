"""When training has diverged: more than half of the last steps were not finite."""

from __future__ import annotations

import pytest

from pamela_cli.config import Config
from pamela_cli.progress import Progress


@pytest.mark.parametrize(
    ("iterations", "step", "skips", "said"),
    [
        (1000, 200, [5] * 10, None),
        (1000, 200, [5] * 9 + [6], "51 of the last 100 meta-gradients before step 200"),
        (1000, 90, [10] * 9, None),  # too early to tell
        (105, 105, [5] * 9 + [3], "48 of the last 95 meta-gradients before step 105"),
        (105, 105, [5] * 9 + [2], None),
        (105, 105, [10] * 9 + [5], "95 of the last 95 meta-gradients before step 105"),
        (15, 15, [4, 4], "8 of the last 15 meta-gradients before step 15"),
        (4, 4, [3], "3 of the last 4 meta-gradients before step 4"),
        (1000, 205, [10] * 10, "100 of the last 100 meta-gradients before step 205"),
    ],
)
def test_divergence(iterations: int, step: int, skips: list[int], said: str | None) -> None:
    found = Progress(step=step, recent_skips=skips).divergence(Config(iterations=iterations))
    assert (found and found.partition(" were")[0]) == said

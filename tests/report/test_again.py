"""The commands that a page says give its results again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from pamela_cli.config import Settings, resolve
from pamela_cli.datasets import recipe
from pamela_cli.engine.runner import Plan
from pamela_cli.report.rerun import ablate_command, config_command, flags_command


@pytest.mark.parametrize("steps", [3, 5, 10])
def test_an_ablation_along_the_updates_goes_as_far_again(tmp_path: Path, steps: int) -> None:
    config = resolve([Settings({"dataset": "sine", "method": "maml", "steps": steps})])
    words = ablate_command(config, "steps", 2, [], [0], tmp_path).split()
    assert words[words.index("--steps") + 1] == str(steps)


@pytest.mark.parametrize(
    ("device", "processes", "flag"),
    [
        ("cpu", 1, []),
        ("cpu", 2, ["--device", "cpu,cpu"]),
        ("cuda:0", 1, []),
        ("cuda:0", 3, ["--device", "cuda:0,cuda:1,cuda:2"]),
    ],
)
def test_a_run_of_several_processes_is_trained_again_by_as_many(
    tmp_path: Path, device: str, processes: int, flag: list[str]
) -> None:
    plan = asdict(Plan(device, 1, 1, workers=1, threads=1, processes=processes))
    assert config_command("x.toml", plan).split() == ["pamela", "meta-train", "--config", "x.toml", *flag]
    words = flags_command(resolve([recipe("sine"), Settings({"dataset": "sine"})]), plan, tmp_path).split()
    assert words == ["pamela", "meta-train", "--dataset", "sine", *flag]


def test_a_plan_that_is_none_is_no_reason_for_flags() -> None:
    assert "--device" not in config_command("x.toml", {"processes": 10**9, "device": "; rm"})


def test_what_an_ablation_was_restricted_to_is_told(tmp_path: Path) -> None:
    config = resolve(
        [recipe("sine"), recipe("sine", "ablation"), Settings({"dataset": "sine", "method": "maml"})]
    )
    for w, methods, words in (
        (2, ["maml", "pamela"], ["--methods", "maml,pamela", "--skip-interval", "2"]),
        (None, [], []),
    ):
        again = ablate_command(config, "variant", w, methods, [0], tmp_path).split()
        assert again == ["pamela", "ablate", "--dataset", "sine", *words]

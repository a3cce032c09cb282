"""Which devices the cells of an ablation are trained on at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pamela_cli.ablation import side_by_side
from pamela_cli.ablation.cells import Cell
from pamela_cli.ablation.grid import Variant
from pamela_cli.ablation.side_by_side import slots_of
from pamela_cli.ablation.worker import Job
from pamela_cli.config import Config, Settings
from pamela_cli.console import Console
from pamela_cli.context import Context
from pamela_cli.errors import UsageError


def test_sine_waves_go_to_the_cores_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is a GPU, unless it is named."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("pamela_cli.ablation.side_by_side.available_cores", lambda: 3)
    assert slots_of("auto", None, "sine") == ["cpu"] * 3
    assert slots_of("auto", 2, "sine") == ["cpu"] * 2
    assert slots_of("cuda", None, "sine") == slots_of("auto", None, "omniglot") == ["cuda:0"]
    assert slots_of("cuda:0,cuda:1", 3, "omniglot") == ["cuda:0", "cuda:1", "cuda:0"]
    assert slots_of("cpu", None, "omniglot") == ["cpu"]
    with pytest.raises(UsageError, match="--device cpu,cuda names devices of several kinds"):
        slots_of("cpu,cuda", None, "omniglot")


@pytest.mark.parametrize(("cells", "cores"), [(1, 8), (3, 2), (9, 2)])
def test_few_cells_share_no_cores_with_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cells: int, cores: int
) -> None:
    """Four at a time are asked for, on eight cores."""
    found: list[Job] = []
    monkeypatch.setattr(side_by_side, "available_cores", lambda: 8)
    monkeypatch.setattr(side_by_side, "run_jobs", lambda jobs, slots, *rest: found.extend(jobs))
    context = Context(Console(quiet=True), tmp_path, tmp_path, Settings({}))
    todo = [Cell(Variant("maml", 1), Config(dataset="sine", steps=1, seed=seed)) for seed in range(cells)]
    side_by_side.train_cells(context, todo, ["x"] * cells, None, ["cpu"] * 4, figures=False)
    assert {job.cores for job in found} == {cores}


@pytest.mark.parametrize(("longer", "said"), [(20, "20 iterations each"), (3000, "20 to 3,000 iterations")])
def test_what_there_is_to_train(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    longer: int,
    said: str,
) -> None:
    monkeypatch.setattr(side_by_side, "run_jobs", lambda *arguments: None)
    context = Context(Console(), tmp_path, tmp_path, Settings({}))
    configs = [Config(dataset="sine", steps=1, seed=i, iterations=n) for i, n in enumerate((20, longer))]
    todo = [Cell(Variant("maml", 1), config) for config in configs]
    side_by_side.train_cells(context, todo, ["x", "y"], None, ["cpu"], figures=False)
    assert f"2 of 2 cells to train, {said}, 1 at a time" in capsys.readouterr().err

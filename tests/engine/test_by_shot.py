"""Which cells of an ablation are compared by the number of shots."""

from __future__ import annotations

from dataclasses import replace

from pamela_cli.ablation.cells import Cell, alike
from pamela_cli.ablation.grid import Variant
from pamela_cli.config import Settings, resolve

BASE = resolve([Settings({"dataset": "sine", "method": "maml", "steps": 5})])


def cells_of(method: str, *seeds: int) -> list[Cell]:
    return [Cell(Variant(method, 5), replace(BASE, method=method, seed=seed)) for seed in seeds]


def test_what_is_compared_by_shot_is_of_the_same_seeds() -> None:
    found = alike({1: [*cells_of("maml", 0, 1, 2), *cells_of("q", 0, 2)], 5: cells_of("maml", 2, 3)})
    assert found == {1: [*cells_of("maml", 2), *cells_of("q", 2)], 5: cells_of("maml", 2)}
    assert alike({1: cells_of("maml", 0), 5: cells_of("q", 1)}) == {}
    assert alike({}) == {}

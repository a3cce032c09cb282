"""The variants of an ablation: which there are, in which order, and under which seeds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pamela_cli.ablation import grid as grids
from pamela_cli.ablation.grid import Variant, grid, in_order, parse_methods, parse_seeds
from pamela_cli.config import Settings, resolve
from pamela_cli.errors import UsageError
from pamela_cli.methods import COMPARED, METHODS, Method

BASE = resolve([Settings({"dataset": "sine", "method": "maml", "steps": 5, "test_tasks": 2})])


def test_the_grid_of_the_paper() -> None:
    labels = [variant.label for variant in grid("variant", 5)]
    assert labels == ["MAML", "Meta-SGD", "+Q shared", "+Q", "+Q+P¹", "+Q+P²", "+Q+P³", "+Q+P⁴"]
    assert [variant.steps for variant in grid("variant", 5)] == [5, 1, 5, 5, 5, 5, 5, 5]
    assert grid("skip-interval", 3) == [
        *(Variant("maml", 3), Variant("q", 3), Variant("pamela", 3, 1), Variant("pamela", 3, 2))
    ]


def test_a_method_of_ones_own_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Method("+Q shared+P", "shared", skips=True, symbol="+Qs+P", without_skips="q-shared")
    monkeypatch.setitem(METHODS, "shared-p", own)
    monkeypatch.setattr(grids, "COMPARED", (*COMPARED, "shared-p"))
    labels = [variant.label for variant in grid("variant", 3)]
    assert labels == ["MAML", "Meta-SGD", "+Q shared", "+Q", "+Q+P¹", "+Q+P²", "+Qs+P¹", "+Qs+P²"]


def test_more_updates_with_the_same_interval() -> None:
    variants = grid("steps", 10, 2)
    assert [variant.steps for variant in variants] == [n for n in range(1, 11) for _ in range(3)]
    alike = [variant for variant in variants if variant.trained_as != variant]
    # One or two updates leave no connection of w = 2 to make.
    assert alike == [Variant("pamela", 1, 2), Variant("pamela", 2, 2)]
    assert [variant.trained_as for variant in alike] == [Variant("q", 1), Variant("q", 2)]


@given(steps=st.integers(1, 12), w=st.integers(1, 12), vary=st.sampled_from(["variant", "skip-interval"]))
def test_every_cell_is_a_valid_setting(steps: int, w: int, vary: str) -> None:
    for variant in [*grid(vary, steps, w), *grid("steps", steps, w)]:
        own = variant.trained_as
        chosen = {"method": own.method, "steps": own.steps, "skip_interval": own.skip_interval}
        values = {key: value for key, value in chosen.items() if value is not None}
        config = resolve([Settings({"dataset": "sine"} | values)])
        assert Variant.of(config) == own


def test_tables_go_by_updates_and_meta_sgd_stands_with_the_others() -> None:
    variants = [*grid("variant", 3), *grid("steps", 2, 1)]
    found = [f"{variant.label} {variant.steps}" for variant in in_order(set(variants), 3)]
    assert found[:6] == ["MAML 1", "+Q 1", "+Q+P¹ 1", "MAML 2", "+Q 2", "+Q+P¹ 2"]
    assert found[6:] == ["MAML 3", "Meta-SGD 1", "+Q shared 3", "+Q 3", "+Q+P¹ 3", "+Q+P² 3"]


def test_methods_and_an_interval_of_choice() -> None:
    assert grid("variant", 5, 2, ["maml", "fomaml", "pamela"]) == [
        *(Variant("maml", 5), Variant("fomaml", 5), Variant("pamela", 5, 2))
    ]
    assert grid("variant", 3, None, ["pamela"]) == [Variant("pamela", 3, 1), Variant("pamela", 3, 2)]
    assert grid("steps", 2, None, ["meta-sgd", "q"]) == [
        *(Variant("meta-sgd", 1), Variant("q", 1), Variant("q", 2))
    ]


def test_methods() -> None:
    assert parse_methods("maml, pamela") == ["maml", "pamela"]
    for wrong in ("", "a", "maml,", "maml,maml"):
        with pytest.raises(UsageError, match="--methods"):
            parse_methods(wrong)


def test_seeds() -> None:
    assert parse_seeds("0,1, 2") == [0, 1, 2]
    for wrong in ("", "a", "0,,1", "-1", "0,0", "1.5", str(2**63)):
        with pytest.raises(UsageError, match="--seeds"):
            parse_seeds(wrong)

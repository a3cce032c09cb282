"""Ablations without training: which cells there are, which runs they are, and what the table says."""

from __future__ import annotations

import json
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from ablation_support import BASE, cell, finished

from pamela_cli.ablation.ablating import Ablation
from pamela_cli.ablation.cells import Cell, all_runs, earlier_cells, free_names, make_cells, run_with
from pamela_cli.ablation.grid import Variant, grid
from pamela_cli.ablation.outcome import Row, document, make_rows
from pamela_cli.ablation.writing import _of_one_budget, _of_one_seed, _shown
from pamela_cli.config import Config, Settings, resolve
from pamela_cli.display.ablations import _in_latex, as_csv, as_latex, as_markdown
from pamela_cli.engine.evaluation import TaskScores
from pamela_cli.methods import METHODS, Method
from pamela_cli.runs import create_run

# Cells and runs -----------------------------------------------------------------------------------------


def test_a_cell_is_found_by_its_settings(tmp_path: Path) -> None:
    run = finished(tmp_path, cell("q"), [1.0, 2.0])
    other = finished(tmp_path, replace(cell("q"), iterations=7), [1.0, 2.0])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.toml").write_text("[")
    runs = all_runs(tmp_path)
    assert {folder.name for _, folder in runs} == {run.name, other.name}
    assert run_with(cell("q"), runs) == run
    assert run_with(cell("q", seed=1), runs) is None
    assert run_with(replace(cell("q"), meta_lr=0.5), runs) is None


def test_a_finished_run_comes_before_one_that_goes_on(tmp_path: Path) -> None:
    create_run(tmp_path, "a", cell("q"), {})
    run = finished(tmp_path, cell("q"), [1.0, 2.0])
    assert run_with(cell("q"), all_runs(tmp_path)) == run


def test_a_store_under_another_name_is_the_same(tmp_path: Path) -> None:
    images = {"dataset": "one", "store_sha256": "f" * 64, "image_size": 28, "channels": 1}
    config = resolve([Settings(images)])
    run = create_run(tmp_path, None, config, {})
    assert run_with(replace(config, dataset="other"), all_runs(tmp_path)) == run
    assert run_with(replace(config, store_sha256="0" * 64), all_runs(tmp_path)) is None


def test_cells_without_a_run_get_a_name_that_tells_them_apart(tmp_path: Path) -> None:
    finished(tmp_path, replace(cell("maml"), iterations=3), [1.0, 2.0])
    variants = [*grid("skip-interval", 3), Variant("meta-sgd", 1)]
    cells = make_cells(variants, [4], BASE, [])
    assert list(free_names(cells, tmp_path)) == [
        "maml-sine-1s-s4-n3",
        "q-sine-1s-s4-n3",
        "pamela-sine-1s-s4-n3-w1",
        "pamela-sine-1s-s4-n3-w2",
        "meta-sgd-sine-1s-s4",
    ]
    again = make_cells([Variant("maml", 5)], [0], BASE, [])
    assert list(free_names([*again, *again], tmp_path)) == ["maml-sine-1s-s0-2", "maml-sine-1s-s0-3"]


def test_earlier_cells_differ_in_variant_and_seed_only(tmp_path: Path) -> None:
    same = [cell("q", steps=3), cell("pamela", 4, seed=9), cell("fomaml")]
    longer = replace(cell("q"), iterations=9, val_every=3)
    for config in [*same, longer, replace(cell("q"), meta_lr=0.5), replace(cell("q"), shot=2)]:
        finished(tmp_path, config, [1.0, 2.0])
    create_run(tmp_path, "unfinished", cell("q", seed=3), {})
    runs = all_runs(tmp_path)

    def found(seeds: list[int] | None, any_budget: bool) -> set[Config]:
        return {own.config for own in earlier_cells(BASE, seeds, runs, any_budget)}

    assert found(None, False) == set(same)
    assert found([0], False) == {same[0], same[2]}
    assert found(None, True) == {*same, longer}


# The table ---------------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path) -> dict:
    """Errors of two seeds on two tasks, small enough to work out by hand."""
    variants = [Variant("maml", 5), Variant("q", 5), Variant("pamela", 5, 2), Variant("pamela", 5, 5)]
    by_method = {
        "maml": ([4.0, 8.0], [6.0, 10.0]),
        "q": ([1.0, 3.0], [3.0, 7.0]),
        "pamela": ([1.0, 1.0], [2.0, 6.0]),
    }
    for method, scores in by_method.items():
        for seed, own in enumerate(scores):
            finished(tmp_path, cell(method, 2 if method == "pamela" else None, seed=seed), own)
    cells = make_cells(variants, [0, 1], BASE, all_runs(tmp_path))
    return document(make_rows(variants, cells, {}, BASE), BASE, [0, 1])


def test_scores_gains_and_spread_by_hand(made: dict) -> None:
    maml, q, pamela, alike = made["rows"]
    # By task: MAML 5, 9; +Q 2, 5; PAMELA 1.5, 3.5. Half-widths are 1.96·s/√2 = 1.96·|a − b|/2.
    assert (maml["mse"], maml["ci95"]) == (7.0, pytest.approx(1.96 * 2))
    assert maml["gain"] is None and maml["gain_over_q"] is None
    assert (q["mse"], q["ci95"]) == (3.5, pytest.approx(1.96 * 1.5))
    assert (q["gain"], q["gain_ci95"]) == (3.5, pytest.approx(1.96 * 0.5))
    assert (pamela["gain"], pamela["gain_ci95"]) == (4.5, pytest.approx(1.96 * 1))
    assert (pamela["gain_over_q"], pamela["gain_over_q_ci95"]) == (1.0, pytest.approx(1.96 * 0.5))
    assert q["seed_scores"] == {"0": 2.0, "1": 5.0}
    assert q["seed_spread"] == pytest.approx(3 / sqrt(2))
    assert (alike["status"], alike["mse"], alike["gain_over_q"]) == ("equal", 3.5, None)
    assert alike["runs"] == q["runs"] == ["q-sine-1s-s0", "q-sine-1s-s1"]
    assert {row["status"] for row in (maml, q, pamela)} == {"done"}


def test_a_median_tells_what_one_wave_cannot_decide(tmp_path: Path) -> None:
    base, maml = replace(BASE, test_tasks=3), [Variant("maml", 5)]
    for seed, own in enumerate(([1.0, 2.0, 600.0], [3.0, 6.0, 0.0])):
        finished(tmp_path, replace(cell("maml", seed=seed), test_tasks=3), own)
    cells = make_cells(maml, [0, 1], base, all_runs(tmp_path))
    made = document(make_rows(maml, cells, {}, base), base, [0, 1])
    # By task 2, 4, 300.
    assert (made["rows"][0]["mse"], made["rows"][0]["median"]) == (102.0, 4.0)
    (_, _, header, _, row, *_) = as_markdown(made).splitlines()
    assert [part.strip() for part in header.split("|")][3:5] == ["MSE", "median"]
    assert row.split("|")[4].strip() == "4.0000"


def test_a_failed_cell_is_marked_and_the_other_seed_counts(tmp_path: Path) -> None:
    variants = [Variant("maml", 5), Variant("q", 5)]
    for config, scores in ((cell("maml"), [4.0, 8.0]), (cell("maml", seed=1), [9.0, 9.0])):
        finished(tmp_path, config, scores)
    finished(tmp_path, cell("q"), [1.0, 3.0])
    cells = make_cells(variants, [0, 1], BASE, all_runs(tmp_path))
    failures = {own: "it diverged" for own in cells if own.variant.method == "q" and own.seed == 1}
    _, q = document(make_rows(variants, cells, failures, BASE), BASE, [0, 1])["rows"]
    assert (q["status"], q["failures"]) == ("failed", {"1": "it diverged"})
    # Compared under the seed that both have: differences 3 and 5.
    assert (q["mse"], q["gain"], q["gain_ci95"]) == (2.0, 4.0, pytest.approx(1.96))


def test_means_over_other_seeds_are_told_apart(tmp_path: Path) -> None:
    for config, scores in (
        (cell("maml"), [4.0, 8.0]),
        (cell("q"), [1.0, 3.0]),
        (cell("q", seed=1), [3.0, 7.0]),
    ):
        finished(tmp_path, config, scores)
    cells = earlier_cells(BASE, None, all_runs(tmp_path), any_budget=True)
    table = document(make_rows([], cells, {}, BASE), BASE, None)
    assert [row["gain"] for row in table["rows"]] == [None, 4.0]
    (_, _, header, _, maml, q, *_, note) = as_markdown(table).splitlines()
    assert header.startswith("| variant | n | seeds | MSE |")
    assert maml.startswith("| MAML | 5 | 0 | 6.0000") and q.startswith("| +Q | 5 | 0, 1 | 3.5000")
    assert "not all in every row: gains are over the seeds that both rows have" in note


def test_figures_are_of_one_budget(tmp_path: Path) -> None:
    for iterations, steps in ((50, 5), (70, 1), (70, 2)):
        config = replace(cell("maml", steps=steps), iterations=iterations)
        finished(tmp_path, config, [4.0, 8.0])
    rows = make_rows([], earlier_cells(BASE, None, all_runs(tmp_path), any_budget=True), {}, BASE)
    table = document(rows, BASE, None)
    shown = _of_one_budget(table)
    assert [(row["steps"], row["iterations"]) for row in shown["rows"]] == [(1, 70), (2, 70)]
    assert shown["iterations"] == 70 and table["iterations"] is None
    assert _of_one_budget(shown) is shown
    found = Ablation(BASE, None, rows, table, tmp_path, {})
    assert [(row.variant.steps, row.iterations) for row in _shown(found)] == [(2, 70)]


def test_curves_are_of_a_seed_that_all_rows_have(tmp_path: Path) -> None:
    for method, seeds in (("maml", (1, 0, 2)), ("q", (2, 1))):
        for seed in seeds:
            finished(tmp_path, cell(method, seed=seed), [4.0, 8.0])
    cells = earlier_cells(BASE, None, all_runs(tmp_path), any_budget=True)
    assert [cell.seed for cell in cells] == [0, 1, 1, 2, 2]
    rows = make_rows([], cells, {}, BASE)
    assert {label: cell.seed for label, cell in _of_one_seed(rows).items()} == {"MAML": 1, "+Q": 1}
    assert _of_one_seed(rows[:1])["MAML"].seed == 0


def test_a_method_of_ones_own_beside_pamela(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a curve of its own; and what its shared Q gives is no gain over +Q."""
    own = Method("+Q shared+P", "shared", skips=True, symbol="+Qs+P", without_skips="q-shared")
    monkeypatch.setitem(METHODS, "shared-p", own)
    configs = [cell(name) for name in ("maml", "q-shared", "q")]
    configs += [cell("pamela", w) for w in (1, 2)] + [cell("shared-p", w) for w in (2, 3)]
    each = np.full((2, 6), 4.0)
    rows = [
        Row(
            Variant.of(config),
            config.iterations,
            [Cell(Variant.of(config), config)],
            {0: TaskScores(each, each)},
        )
        for config in configs
    ]
    table = document(rows, BASE, None)
    shown = _shown(Ablation(BASE, None, rows, table, tmp_path, {}))
    assert [row.variant.label for row in shown] == ["MAML", "+Q", "+Q+P²", "+Qs+P²"]
    over_q = {row["label"]: row["gain_over_q"] for row in table["rows"]}
    assert over_q["+Q+P²"] == 0 and over_q["+Qs+P²"] is None


def test_a_damaged_scores_file_is_a_failure_not_a_crash(tmp_path: Path) -> None:
    folder = finished(tmp_path, cell("maml"), [4.0, 8.0])
    folder.scores.write_bytes(b"nonsense")
    cells = make_cells([Variant("maml", 5)], [0], BASE, all_runs(tmp_path))
    (row,) = document(make_rows([Variant("maml", 5)], cells, {}, BASE), BASE, [0])["rows"]
    assert row["status"] == "failed" and "scores.safetensors" in row["failures"]["0"]


def test_an_untrained_cell_is_missing(tmp_path: Path) -> None:
    cells = make_cells([Variant("maml", 5)], [0], BASE, [])
    (row,) = document(make_rows([Variant("maml", 5)], cells, {}, BASE), BASE, [0])["rows"]
    assert (row["status"], row["mse"], row["runs"]) == ("missing", None, [])


def test_gains_compare_as_many_updates_and_meta_sgd_with_the_usual_number(tmp_path: Path) -> None:
    for method, steps, error in (
        ("maml", 1, 20.0),
        ("maml", 5, 10.0),
        ("q", 1, 4.0),
        ("q", 5, 3.0),
        ("meta-sgd", 1, 8.0),
    ):
        finished(tmp_path, cell(method, steps=steps), [error, error])
    cells = earlier_cells(BASE, None, all_runs(tmp_path), False)
    rows = document(make_rows([], cells, {}, BASE), BASE, None)["rows"]
    gains = {(row["label"], row["steps"]): row["gain"] for row in rows}
    assert gains == {
        ("MAML", 1): None,
        ("+Q", 1): 16.0,
        ("MAML", 5): None,
        ("Meta-SGD", 1): 2.0,
        ("+Q", 5): 7.0,
    }


def test_the_papers_gains_stand_beside_its_setting_only(tmp_path: Path) -> None:
    paper = {"dataset": "miniimagenet", "shot": 5, "image_size": 84, "channels": 3, "store_sha256": "0" * 64}
    for settings, expected in ((paper, [None, 0.0307, None, 0.074]), (paper | {"shot": 1}, [None] * 4)):
        base = resolve([Settings(settings | {"method": "maml"})])
        variants = [Variant("maml", 5), Variant("q", 5), Variant("pamela", 5, 1), Variant("pamela", 5, 2)]
        rows = document(make_rows(variants, make_cells(variants, [0], base, []), {}, base), base, [0])["rows"]
        assert [row["paper_gain"] for row in rows] == expected


def test_markdown(made: dict) -> None:
    lines = as_markdown(made).splitlines()
    assert lines[0] == "**Ablation on sine, 1-shot**"
    assert lines[2] == "| variant | n | MSE | median | spread of seeds | gain over MAML | gain over +Q |"
    assert lines[3] == "| :-- | --: | --: | --: | --: | --: | --: |"
    assert (
        lines[6] == "| +Q+P² | 5 | 2.5000 ± 1.9600 | 2.5000 | 2.1213 | +4.5000 ± 1.9600 | +1.0000 ± 0.9800 |"
    )
    assert lines[7] == "| +Q+P⁵ | 5 | = +Q |  |  |  |  |"
    assert "seeds 0, 1 (a task counts once, by its mean); 2 test tasks" in lines[9]


def test_latex(made: dict) -> None:
    text = as_latex(made)
    assert r"+Q+P$^2$ & 5 & 2.5000 $\pm$ 1.9600 & 2.5000 & 2.1213 & +4.5000 $\pm$ 1.9600" in text
    assert r"\begin{tabular}{lrrrrrr}" in text
    assert text.count(r" \\") == 5
    assert "%" not in text.replace(r"\%", "")


def test_minus_in_latex() -> None:
    assert _in_latex("−0.2500 ± 0.1000") == r"$-$0.2500 $\pm$ 0.1000"
    assert _in_latex("Meta-SGD") == "Meta-SGD"


def test_names_in_latex() -> None:
    assert _in_latex(r"a$b_{c}~d\e") == r"a\$b\_\{c\}\textasciitilde{}d\textbackslash{}e"


def test_csv_is_unrounded(made: dict) -> None:
    header, *lines = as_csv(made).splitlines()
    first = dict(zip(header.split(","), lines[1].split(","), strict=True))
    row = made["rows"][1]
    assert first["seeds"].split() == list(row["seed_scores"])
    assert float(first["ci95"]) == row["ci95"] and first["variant"] == "q" and first["skip_interval"] == ""
    assert json.loads(json.dumps(made)) == made

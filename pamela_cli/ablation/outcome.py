"""What an ablation found: for each variant its score, and its gains task by task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pamela_cli.ablation.cells import Cell
from pamela_cli.ablation.grid import Variant, in_order
from pamela_cli.config import SINE, Config
from pamela_cli.display.paper import ABLATION_GAINS
from pamela_cli.engine.evaluation import TaskScores
from pamela_cli.engine.intervals import Floats, mean_ci95, paired_advantage
from pamela_cli.errors import PamelaError
from pamela_cli.measures import Measure
from pamela_cli.methods import METHODS
from pamela_cli.results import EvaluationProtocol
from pamela_cli.scores import read_scores
from pamela_cli.untrusted import printable


@dataclass(frozen=True)
class Row:
    """A variant with the cells that it was trained as, one for each seed, and their test scores by seed.

    ``failures`` says, by seed, why a cell has none.
    """

    variant: Variant
    iterations: int
    cells: list[Cell]
    scores: Mapping[int, TaskScores] = field(default_factory=dict)
    failures: Mapping[int, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """``done``, ``equal`` (no connection to make: it is +Q), ``failed`` or ``missing``."""
        if self.failures:
            return "failed"
        if len(self.scores) < len(self.cells):
            return "missing"
        return "done" if self.variant.trained_as == self.variant else "equal"

    @property
    def final(self) -> Floats:
        """Score of each task, (tasks,): the mean over the seeds.

        The same task under several seeds is not several tasks: counted so, intervals would be too narrow.
        """
        return _pooled(self.scores, self.scores)


def _pooled(scores: Mapping[int, TaskScores], seeds: Iterable[int]) -> Floats:
    pooled: Floats = np.mean([scores[seed].final for seed in seeds], axis=0)
    return pooled


def make_rows(
    wanted: Sequence[Variant], cells: Sequence[Cell], failures: Mapping[Cell, str], base: Config
) -> list[Row]:
    """The rows of the table: the variants asked for, and those of all further cells."""
    budgets = sorted({cell.config.iterations for cell in cells})
    rows = []
    for iterations in budgets:
        here = [cell for cell in cells if cell.config.iterations == iterations]
        variants = dict.fromkeys([*wanted, *(cell.variant for cell in here)])
        for variant in in_order(variants, base.steps or 0):
            own = [cell for cell in here if cell.variant == variant.trained_as]
            if own:
                rows.append(_row(variant, iterations, own, failures))
    return rows


def _row(variant: Variant, iterations: int, cells: list[Cell], failures: Mapping[Cell, str]) -> Row:
    scores, failed = {}, {}
    for cell in cells:
        if cell in failures:
            failed[cell.seed] = failures[cell]
        elif cell.finished and cell.folder is not None:
            try:
                scores[cell.seed] = read_scores(cell.folder.scores, cell.config)["test"].scores
            except (PamelaError, KeyError) as error:
                failed[cell.seed] = str(error)
    return Row(variant, iterations, cells, scores, failed)


def gain(row: Row, other: Row | None, measure: Measure) -> tuple[float | None, float | None]:
    """How much better a row is than another, task by task under the seeds that both have; None if none."""
    if other is None or other is row:
        return None, None
    seeds = [seed for seed in row.scores if seed in other.scores]
    if not seeds:
        return None, None
    ours, theirs = _pooled(row.scores, seeds), _pooled(other.scores, seeds)
    return paired_advantage(ours, theirs, measure.higher_is_better)


def baseline(rows: Sequence[Row], row: Row, method: str, steps: int) -> Row | None:
    """The row of ``method`` that a row is compared with: of as many updates, and as many iterations.

    Meta-SGD, which takes one update by definition, is compared with ``steps`` of them.
    """
    updates = steps if row.variant.alone else row.variant.steps
    wanted = Variant(method, updates)
    return next((r for r in rows if r.variant == wanted and r.iterations == row.iterations), None)


def document(
    rows: Sequence[Row], base: Config, seeds: Sequence[int] | None, vary: str = "variant"
) -> dict[str, Any]:
    """The ablation as JSON (see docs/commands.md). Accuracies and gains are fractions."""
    budgets = {row.iterations for row in rows}
    present = sorted({seed for row in rows for seed in row.scores}) if seeds is None else list(seeds)
    return {
        "dataset": base.dataset,
        "way": base.way,
        "shot": base.shot,
        "query": EvaluationProtocol.of(base, "test").query,
        "tasks": base.test_tasks,
        "seeds": present,
        "iterations": budgets.pop() if len(budgets) == 1 else None,
        "norm_stats": None if base.dataset == SINE else "query",
        "vary": vary,
        "rows": [_record(row, rows, base) for row in rows],
    }


def _record(row: Row, rows: Sequence[Row], base: Config) -> dict[str, Any]:
    mean, ci95 = mean_ci95(row.final) if row.scores else (None, None)
    means = {seed: float(scores.final.mean()) for seed, scores in row.scores.items()}
    spread = float(np.std(list(means.values()), ddof=1)) if len(means) > 1 else None
    over_maml = gain(row, baseline(rows, row, "maml", base.steps or 0), base.measure)
    adds_to_q = METHODS[row.variant.method].without_skips == "q" and row.status != "equal"
    q = baseline(rows, row, "q", base.steps or 0) if adds_to_q else None
    over_q = gain(row, q, base.measure)
    return {
        "variant": row.variant.method,
        "label": row.variant.label,
        "skip_interval": row.variant.skip_interval,
        "steps": row.variant.steps,
        "iterations": row.iterations,
        "status": row.status,
        "failures": {str(seed): printable(reason) for seed, reason in row.failures.items()},
        base.measure.name: mean,
        "ci95": ci95,
        **_median(row, base.measure),
        "seed_scores": {str(seed): value for seed, value in means.items()},
        "seed_spread": spread,
        "gain": over_maml[0],
        "gain_ci95": over_maml[1],
        "gain_over_q": over_q[0],
        "gain_over_q_ci95": over_q[1],
        "paper_gain": _paper_gain(row.variant, base),
        "runs": [cell.folder.name for cell in row.cells if cell.folder is not None],
    }


def _median(row: Row, measure: Measure) -> dict[str, float | None]:
    """The median of the tasks, for scores whose mean a single task can decide."""
    if not measure.heavy_tailed:
        return {}
    return {"median": float(np.median(row.final)) if row.scores else None}


def _paper_gain(variant: Variant, base: Config) -> float | None:
    """The paper's gain over MAML, where the setting is the paper's."""
    settings = (base.dataset, base.way, base.shot, variant.steps, base.width, base.image_size)
    if settings != ("miniimagenet", 5, 5, 5, 64, 84):
        return None
    return ABLATION_GAINS.get((variant.method, variant.skip_interval))

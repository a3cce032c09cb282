"""What an evaluation found of a run, and the figures of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from pamela_cli.display.figures import fitted_waves, loss_by_update
from pamela_cli.engine.evaluation import TaskScores
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.tasks import Tasks
from pamela_cli.judging import fit_curves
from pamela_cli.measures import measure_of
from pamela_cli.problem import Problem
from pamela_cli.results import EvaluationProtocol, protocol_text, task_text, updates_text
from pamela_cli.runs import RunFolder


@dataclass(frozen=True)
class Judged:
    """A run with its learner, and what it achieved; ``label`` is what it is called beside others.

    ``record`` is its result as a document, ``waves`` the first tasks, of sine waves, ``checkpoint`` the
    SHA-256 of what was judged. It holds on to no images: there may be many runs.
    """

    label: str
    folder: RunFolder
    problem: Problem
    learner: Learner
    protocol: EvaluationProtocol
    scores: TaskScores
    record: dict[str, Any]
    waves: Tasks | None
    checkpoint: str


def usual_tasks(problem: Problem) -> int:
    """How many tasks are asked for where nobody says so."""
    return 1000 if problem.is_sine else 600


def drawings(judged: list[Judged]) -> list[Callable[[], Path]]:
    """What draws each figure: loss by update, of all runs, in the first one's folder; waves of each run."""
    first = judged[0]
    p = first.protocol
    title = f"{p.dataset} {p.split}, {task_text(p.way, p.shot)}, {len(first.scores.final)} tasks"
    title += "" if first.record["seed"] is None else f" of seed {first.record['seed']}"
    title += "\n" + protocol_text(*(each.record for each in judged)).replace("; ", "\n")
    unit = measure_of(p.way).loss_unit
    labelled = [(each.label, each.scores) for each in judged]
    trained = [each.problem.config.steps or 0 for each in judged]
    stem = first.folder.figures / f"loss-by-update-{p.split}{_apart(judged)}"
    waves = [partial(_draw_waves, each, each.waves) for each in judged if each.waves]
    return [partial(loss_by_update, labelled, stem, title, trained, unit), *waves]


def _apart(judged: list[Judged]) -> str:
    """What sets a figure apart, in its name, from that of the run alone judged as it was trained."""
    first, p = judged[0], judged[0].protocol
    usual = EvaluationProtocol.of(first.problem.config, p.split)
    seed = first.record["seed"]
    partners = sha256("\0".join(each.label for each in judged[1:]).encode(errors="surrogateescape"))
    parts = [
        (p.dataset != usual.dataset, p.dataset),
        ((p.way, p.shot) != (usual.way, usual.shot), f"{p.way}w{p.shot}s" if p.way else f"{p.shot}s"),
        (p.query != usual.query, f"{p.query}q"),
        (p.steps != usual.steps, f"n{p.steps}"),
        (p.norm_stats != usual.norm_stats, f"{p.norm_stats}-stats"),
        (p.tta, "tta"),
        (p.resized, "resized"),
        (seed is not None, f"seed{seed}"),
        (len(first.scores.final) != usual_tasks(first.problem), f"{len(first.scores.final)}tasks"),
        (len(judged) > 1, f"{len(judged)}-runs-{partners.hexdigest()[:6]}"),
    ]
    return "".join(f"-{part}" for differs, part in parts if differs)


def _draw_waves(judged: Judged, waves: Tasks) -> Path:
    """The first waves of the task set, with the curve after each update (paper figure 4)."""
    p = judged.protocol
    curves = fit_curves(judged.learner, judged.problem, waves, p.steps)
    apart = ("" if p.split == "test" else f"-{p.split}") + _apart([judged])
    title = f"{judged.label}: {p.split} waves, {task_text(p.way, p.shot)}, {updates_text(p.steps)}"
    return fitted_waves(title, *curves, judged.folder.figures / f"fitted-waves{apart}")

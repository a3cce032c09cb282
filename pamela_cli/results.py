"""Results as documents: the records that commands print with ``--json`` and runs keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pamela_cli.config import Config
from pamela_cli.engine.intervals import mean_ci95
from pamela_cli.measures import SINE_QUERY_POINTS, measure_in
from pamela_cli.methods import METHODS
from pamela_cli.progress import Progress
from pamela_cli.untrusted import number

# Runs are listed without PyTorch.
if TYPE_CHECKING:
    from pamela_cli.engine.evaluation import NormSource, TaskScores
    from pamela_cli.problem import TaskSet

Document = dict[str, Any]
"""What is printed with ``--json`` or kept as JSON."""

_SUMMARY: dict[str, type] = {
    "run": str,
    "method": str,
    "dataset": str,
    "iterations": int,
    "seed": int,
    "skipped_steps": int,
    "val": dict,
    "test": dict,
}
_RESULT: dict[str, type] = {"tasks": int, "shot": int, "query": int, "steps": int, "trained_steps": int}


@dataclass(frozen=True)
class EvaluationProtocol:
    """How a run was judged: on which tasks, with how many updates, how batch norm got its statistics."""

    dataset: str
    split: str
    way: int | None
    shot: int
    query: int
    steps: int
    norm_stats: NormSource = "query"
    tta: bool = False
    resized: bool = False

    @classmethod
    def of(cls, config: Config, split: str) -> EvaluationProtocol:
        """As the run was trained."""
        query = SINE_QUERY_POINTS if config.way is None else config.query
        return cls(config.dataset or "", split, config.way, config.shot, query, config.steps or 0)


def result_record(
    run: str, config: Config, protocol: EvaluationProtocol, tasks: TaskSet, scores: TaskScores
) -> dict[str, Any]:
    """One run's result on a task set. Accuracies are fractions, ``ci95`` half-widths.

    ``seed`` is that of the tasks, null for the fixed ones that every evaluation shares. The lists by
    update begin before adaptation.
    """
    record: dict[str, Any] = {
        "run": run,
        "trained_on": config.dataset,
        "dataset": protocol.dataset,
        "split": protocol.split,
        "method": config.method,
    }
    mean, ci95 = mean_ci95(scores.final)
    shared = {
        "tasks": tasks.count,
        "way": protocol.way,
        "shot": protocol.shot,
        "query": protocol.query,
        "steps": protocol.steps,
        "trained_steps": config.steps,
        "norm_stats": protocol.norm_stats if protocol.way is not None else None,
        "mirror_support": config.mirror_support if protocol.way is not None else None,
        "tta": protocol.tta if protocol.way is not None else None,
        "resized": protocol.resized if protocol.way is not None else None,
        "seed": tasks.seed,
    }
    by_update = scores.score.mean(0).tolist()
    widths = {"ci95_per_step": [mean_ci95(each)[1] for each in scores.score.T]}
    if protocol.way is None:
        median = float(np.median(scores.final))
        curves = {"mse_per_step": by_update} | widths
        return record | {"mse": mean, "ci95": ci95, "median": median} | shared | curves
    losses = scores.loss.mean(0).tolist()
    curves = {"loss_per_step": losses, "accuracy_per_step": by_update} | widths
    return record | {"accuracy": mean, "ci95": ci95} | shared | curves


def run_summary(run: str, config: Config, records: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """The result of a training run: its ``records`` by split, and what training took."""
    summary: dict[str, Any] = {
        "run": run,
        "method": config.method,
        "dataset": config.dataset,
        "iterations": config.iterations,
        "seed": config.seed,
        "seconds": progress.seconds,
        "tasks_per_second": config.iterations * config.meta_batch / progress.seconds,
        "skipped_steps": progress.skipped,
        **records,
    }
    return summary | ({"lowered": progress.lowered} if progress.lowered else {})


def is_summary(document: Any) -> bool:
    """Whether it is the result of a training run, as far as anything is shown of it."""
    if not isinstance(document, dict) or not _has(document, _SUMMARY):
        return False
    timed = None not in (number(document.get("seconds")), number(document.get("tasks_per_second")))
    return timed and document["method"] in METHODS and all(is_result(document[s]) for s in ("val", "test"))


def is_result(record: dict[str, Any]) -> bool:
    """Whether it is the result of a run on a task set, as far as anything is shown of it."""
    name = measure_in(record).name
    if not {name, "ci95", "way", "norm_stats"} <= record.keys() or not _has(record, _RESULT):
        return False
    # A score that was not finite is null.
    scored = record[name] is None or None not in (number(record[name]), number(record.get("ci95")))
    known = record["norm_stats"] in (None, "query", "support") and isinstance(record["way"], int | None)
    said = all(isinstance(record.get(name), bool | None) for name in ("mirror_support", "tta", "resized"))
    curve = record.get(f"{name}_per_step")
    return scored and known and said and isinstance(curve, list) and len(curve) > 0


def _has(document: dict[str, Any], kinds: dict[str, type]) -> bool:
    return all(isinstance(document.get(key), kind) for key, kind in kinds.items())


def task_text(way: Any, shot: Any) -> str:
    """The shape of tasks for people: 5-way 1-shot, or for sine waves 10-shot."""
    return f"{way}-way {shot}-shot" if way else f"{shot}-shot"


def updates_text(steps: Any) -> str:
    """How many inner updates, for people."""
    return f"{steps} update{'s' * (steps != 1)}"


def hardware_text(environment: dict[str, Any]) -> str:
    """The GPU, or the processor with the cores that were used, of a record as ``environment.json`` has it."""
    if environment.get("gpu"):
        return str(environment["gpu"])
    kind = f" ({environment['cpu_type']})" if environment.get("cpu_type") else ""
    return f"{environment.get('cores')} cores of {environment.get('cpu') or 'an unknown CPU'}{kind}"


def computed_on_text(environment: dict[str, Any]) -> str:
    """Processor or GPU, with PyTorch's version."""
    return f"{hardware_text(environment)}, PyTorch {environment.get('torch')}"


def protocol_text(record: dict[str, Any], *others: dict[str, Any]) -> str:
    """How batch norm got its statistics, and whether mirror images helped; sine waves have neither.

    Of several results, what is the same for all is told from the first.
    """
    if record["norm_stats"] is None:
        return "no batch norm"
    how = {
        "query": "queries normalised among themselves (transductive)",
        "support": "queries normalised by the support set alone",
    }
    text = how[record["norm_stats"]]
    if record.get("tta"):
        return f"{text}; mirror images of the support and of queries (test-time augmentation)"
    every = all(each.get("mirror_support") for each in (record, *others))
    return f"{text}; mirror images of the support" if every else text

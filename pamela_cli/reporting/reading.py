"""What a run folder holds, read for a report: what is damaged is left out and said, never an error.

Only the settings must be readable: without them a folder is no run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pamela_cli.config import Config
from pamela_cli.engine.checkpoint import Checkpoint, CheckpointError
from pamela_cli.errors import PamelaError
from pamela_cli.methods import METHODS
from pamela_cli.reporting.texts import number
from pamela_cli.runs import RunFolder
from pamela_cli.scores import StoredScores, read_scores

Document = dict[str, Any]

_MOST_STEPS = 10**12
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
class ReadRun:
    """A run: settings, how it was computed, and what there is of results.

    ``summary`` is None for a run that is not finished; ``metrics`` are the sound lines; ``step`` is the
    outer step of the last checkpoint; ``faults`` are sentences on what is damaged.
    """

    folder: RunFolder
    config: Config
    plan: Document
    summary: Document | None
    metrics: list[Document]
    scores: dict[str, StoredScores]
    step: int
    faults: list[str]

    @property
    def name(self) -> str:
        """What the run is called, also where its path ends in a dot or two."""
        return self.folder.path.resolve().name

    @property
    def score_name(self) -> str:
        """What its scores are: "mse" or "accuracy"."""
        return self.config.score_name

    @property
    def validations(self) -> list[Document]:
        """The lines of metrics of its validations, in order."""
        return [m for m in self.metrics if f"val_{self.score_name}" in m]


def read_run(folder: RunFolder) -> ReadRun:
    """Read a run folder; :class:`PamelaError` where its settings cannot be read."""
    config, recorded = folder.read_config()
    faults: list[str] = []
    summary = _summary(folder, faults)
    scores: dict[str, StoredScores] = {}
    if folder.scores.is_file():
        try:
            scores = read_scores(folder.scores)
        except (PamelaError, RecursionError):
            faults.append(
                "Its scores.safetensors is damaged: what needs the score of every task is left out."
            )
    metrics = _metrics(folder, config.score_name, faults)
    return ReadRun(
        folder, config, recorded.get("plan", {}), summary, metrics, scores, _step(folder, faults), faults
    )


def read_json(path: Path) -> Any:
    """A JSON file's content; None where it is not there or cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None


def _summary(folder: RunFolder, faults: list[str]) -> Document | None:
    if not folder.summary_file.is_file():
        return None
    summary = read_json(folder.summary_file)
    if isinstance(summary, dict) and _is_summary(summary):
        return summary
    faults.append("Its summary.json is damaged: delete it, and --resume tests the run again.")
    return None


def _is_summary(summary: Document) -> bool:
    """Whether the document is one that meta-train wrote, as far as it is shown."""
    if not all(isinstance(summary.get(key), kind) for key, kind in _SUMMARY.items()):
        return False
    timed = None not in (number(summary.get("seconds")), number(summary.get("tasks_per_second")))
    return timed and summary["method"] in METHODS and all(_is_result(summary[s]) for s in ("val", "test"))


def _is_result(record: Document) -> bool:
    name = "mse" if "mse" in record else "accuracy"
    if name not in record or not all(isinstance(record.get(key), kind) for key, kind in _RESULT.items()):
        return False
    # A score that was not finite is null.
    scored = record[name] is None or None not in (number(record[name]), number(record.get("ci95")))
    curve, way = record.get(f"{name}_per_step"), record.get("way")
    known = record.get("norm_stats") in (None, "query", "support") and (way is None or isinstance(way, int))
    return scored and known and isinstance(curve, list) and len(curve) > 0


def _metrics(folder: RunFolder, score: str, faults: list[str]) -> list[Document]:
    """The lines that have a step, with the numbers among their values that figures need."""
    if not folder.metrics_file.is_file():
        return []
    try:
        lines = folder.metrics()
    except (OSError, ValueError, RecursionError):
        faults.append("Its metrics.jsonl is damaged: there are no curves of training.")
        return []
    found = []
    for line in lines:
        step = number(line.get("step")) if isinstance(line, dict) else None
        if step is None or not 0 <= step <= _MOST_STEPS:
            continue
        values = {key: number(line.get(key)) for key in (score, f"val_{score}", "val_ci95")}
        known = {key: value for key, value in values.items() if value is not None}
        if f"val_{score}" not in known or "val_ci95" in known:
            found.append({"step": int(step)} | known)
    return found


def _step(folder: RunFolder, faults: list[str]) -> int:
    if not folder.last.is_file():
        return 0
    try:
        return int(Checkpoint.read(folder.last).progress["step"])
    except (CheckpointError, RecursionError, KeyError, TypeError, ValueError):
        faults.append("Its last.safetensors is damaged: the run cannot go on from there.")
        return 0

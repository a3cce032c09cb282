"""What results/ keeps of a finished run: enough to reproduce it, to compare it, and to question it.

``config.toml`` (all settings), ``summary.json``, ``environment.json``, ``metrics.csv`` (thinned),
``scores.json`` (of every test task, for paired comparisons), ``checkpoint.json`` (its checksum, and a
summary of the meta-parameters), and ``evaluations.json``, what `evaluate` has found of it. For a run that
diverged, ``diverged.json`` says so in place of its results.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.archives.base import file_sha256
from pamela_cli.config import FACTS, Config, resolve
from pamela_cli.console import finite
from pamela_cli.datasets import recipe
from pamela_cli.engine.checkpoint import Checkpoint, CheckpointError
from pamela_cli.engine.evaluation import TaskScores
from pamela_cli.engine.intervals import Floats
from pamela_cli.errors import PamelaError
from pamela_cli.evaluations import evaluations, latest
from pamela_cli.files import write_atomically, writing
from pamela_cli.problem import network, update_rule
from pamela_cli.reproducing.plan import PlannedCell
from pamela_cli.results import Document
from pamela_cli.runs import RunFolder
from pamela_cli.scores import read_scores
from pamela_cli.untrusted import OddFileError, number, read_json

_EVALUATIONS = "evaluations.json"
_PARTS = ("summary.json", "scores.json", "checkpoint.json", "diverged.json", _EVALUATIONS)
"""What tells a result, or that there is none."""

_LINES = 200
"""Lines of training metrics at most."""


@dataclass(frozen=True)
class KeptResult:
    """A result that is kept: its settings, how it was computed, summary, test scores by task, and on what."""

    path: Path
    config: Config
    plan: Document
    summary: Document
    tasks: str
    scores: Floats
    environment: list[Document]

    @property
    def evaluations(self) -> list[Document]:
        """What `evaluate` has found of it, the last of each kind."""
        return _kept_evaluations(self.path)

    @property
    def task_scores(self) -> TaskScores:
        """The scores as those after the last update alone, (tasks, 1)."""
        return TaskScores(self.scores[:, None], self.scores[:, None])


def keep(run: RunFolder, out: Path) -> None:
    """Write what is kept of a finished run into the folder ``out``; :class:`PamelaError` if that fails."""
    summary = run.read_summary()
    if summary is None:
        raise PamelaError(f"{run.path} is not finished; continue it with --resume.")
    config, _ = run.read_config()
    test = read_scores(run.scores, config).get("test")
    if test is None:
        raise PamelaError(
            f"{run.scores} has no scores of test tasks; delete it, and --resume tests the run again."
        )
    # Six digits: the seventh is rounding.
    scores = [float(f"{value:.6g}") for value in test.scores.final]
    parts = {
        "summary.json": _json(summary),
        "scores.json": json.dumps(finite({"tasks": test.tasks, "test": scores})) + "\n",
        "checkpoint.json": _json(_about(run.best, config)),
    }
    _replace(out, parts | _course(run, config))


def keep_divergence(run: RunFolder, why: str, out: Path) -> None:
    """Write that a run has diverged, and its course, into the folder ``out``, all or nothing."""
    config, _ = run.read_config()
    _replace(out, {"diverged.json": _json({"why": why})} | _course(run, config))


def keep_evaluations(run: RunFolder, out: Path) -> None:
    """Add what `evaluate` has found, since, of the checkpoint that ``out`` is about.

    :class:`PamelaError` if it cannot be written.
    """
    before, checkpoint = _kept_evaluations(out), _checkpoint_of(out)
    found = [each for each in evaluations(run) if each.get("checkpoint") == checkpoint]
    every = latest(sorted([*before, *found], key=lambda each: str(each.get("evaluated"))))
    if every != before:
        write_atomically(out / _EVALUATIONS, _json(every))


def _checkpoint_of(out: Path) -> str:
    """The SHA-256 of the checkpoint of a kept result; empty if it does not say."""
    try:
        return str(read_json(out / "checkpoint.json")["sha256"])
    except (OddFileError, KeyError, TypeError):
        return ""


def _kept_evaluations(path: Path) -> list[Document]:
    try:
        every = read_json(path / _EVALUATIONS)
    except OddFileError:
        return []
    return latest(every) if isinstance(every, list) else []


def _course(run: RunFolder, config: Config) -> dict[str, str]:
    """What is kept of every run, whatever it came to."""
    return {
        "environment.json": _json(run.environment()),
        "metrics.csv": _thinned(list(run.metrics()), config.measure.name),
        # The last: with it the result counts.
        "config.toml": run.config_file.read_text(encoding="utf-8"),
    }


def _replace(out: Path, parts: Mapping[str, str]) -> None:
    """Write ``parts`` in order; until the last is there, nothing that lies there counts."""
    with writing(out):
        for name in ("config.toml", *_PARTS):
            (out / name).unlink(missing_ok=True)
    for name, text in parts.items():
        write_atomically(out / name, text)


def kept_result(planned: PlannedCell, results: Path) -> KeptResult | None:
    """What is kept of a cell; None if there is nothing, or it has other settings than the plan has now."""
    kept = _read(results / planned.name)
    return kept if kept is not None and as_planned(kept.config, planned) else None


def kept_divergence(planned: PlannedCell, results: Path) -> str | None:
    """Why a cell has no result, where it is kept that it diverged, by the settings of the plan."""
    folder = RunFolder(results / planned.name)
    try:
        config, _ = folder.read_config()
        why = read_json(folder.path / "diverged.json")["why"]
    except (PamelaError, OddFileError, KeyError, TypeError):
        return None
    return str(why) if as_planned(config, planned) else None


def as_planned(config: Config, planned: PlannedCell) -> bool:
    """Whether a run with these settings is what the plan has for a cell."""
    expected = resolve([recipe(planned.dataset), planned.layer])
    facts: dict[str, Any] = dict.fromkeys(FACTS)
    # A store may be called otherwise; the folder is that of the cell.
    named = config if config.store_sha256 is None else replace(config, dataset=expected.dataset)
    return replace(named, **facts) == expected


def _read(path: Path) -> KeptResult | None:
    """What :func:`keep` has written into a folder; None if it is not there, or not whole."""
    folder = RunFolder(path)
    try:
        config, recorded = folder.read_config()
        summary, scores = folder.read_summary(), read_json(path / "scores.json")
        values = np.array([np.nan if v is None else v for v in scores["test"]], np.float64)
        tasks = str(scores["tasks"])
    except (PamelaError, OddFileError, KeyError, TypeError, ValueError):
        return None
    if summary is None or values.ndim != 1 or len(values) != config.test_tasks:
        return None
    told = ("dataset", "method", "seed", "iterations")
    if any(summary.get(name) != getattr(config, name) for name in told):
        return None  # the numbers are of other settings
    if not (path / "checkpoint.json").is_file():
        return None
    return KeptResult(path, config, recorded.get("plan", {}), summary, tasks, values, folder.environment())


def _json(value: Any) -> str:
    return json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n"


def _thinned(metrics: list[Document], name: str) -> str:
    """Means over as many windows of training as there is room for, and every validation; of the score."""
    training = [m for m in metrics if "val_scores" not in m]
    size = max(1, -(-len(training) // _LINES))
    rows: list[tuple[int, dict[str, Any]]] = []
    for start in range(0, len(training), size):
        part = training[start : start + size]
        means = {key: _mean(part, key) for key in ("loss", name, "gradient_norm", "tasks_per_second")}
        skipped = sum(number(m.get("skipped")) or 0 for m in part)
        rows.append((part[-1]["step"], {**means, "skipped": skipped}))
    rows += [
        (m["step"], {k: number(m.get(k)) for k in (f"val_{name}", "val_ci95")})
        for m in metrics
        if "val_scores" in m
    ]
    header = ["step", "loss", name, "gradient_norm", "skipped", "tasks_per_second", f"val_{name}", "val_ci95"]
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    for step, values in sorted(rows, key=lambda row: row[0]):
        writer.writerow({"step": step} | {key: _short(value) for key, value in values.items()})
    return text.getvalue()


def _mean(lines: list[Document], key: str) -> float | None:
    values = [value for m in lines if (value := number(m.get(key))) is not None]
    return sum(values) / len(values) if values else None


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _about(path: Path, config: Config) -> Document:
    """A checkpoint's checksum and step, and of each of its tensors the shape and the spread of numbers."""
    try:
        checkpoint = Checkpoint.read(path, update_rule(config, network(config)))
    except CheckpointError as error:
        raise PamelaError(f"{error}.") from error
    return {
        "sha256": file_sha256(path),
        "step": checkpoint.progress.get("step"),
        "tensors": {name: _spread(tensor.numpy()) for name, tensor in checkpoint.tensors.items()},
    }


def _spread(numbers: Any) -> Document:
    least, median, largest = np.quantile(numbers, [0, 0.5, 1]).tolist()
    mean = float(numbers.mean(dtype=np.float64))
    return {"shape": list(numbers.shape), "mean": mean, "least": least, "median": median, "largest": largest}

"""What results/ keeps of a finished run: enough to have it again, to compare it, and to doubt it.

``config.toml`` (all settings), ``summary.json``, ``environment.json``, ``metrics.csv`` (thinned),
``scores.json`` (of every test task, for paired comparisons) and ``checkpoint.json`` (its checksum, and the
learned numbers summed up).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pamela_cli.config import Config, resolve
from pamela_cli.console import finite
from pamela_cli.datasets import recipe
from pamela_cli.engine.checkpoint import Checkpoint
from pamela_cli.engine.evaluation import Floats, TaskScores
from pamela_cli.errors import PamelaError
from pamela_cli.files import write_atomically
from pamela_cli.metrics import Record as Document
from pamela_cli.reproducing.plan import PlannedCell
from pamela_cli.runs import RunFolder
from pamela_cli.scores import read_scores
from pamela_cli.untrusted import OddFileError, read_json

_LINES = 200
"""Lines of training metrics at most."""


@dataclass(frozen=True)
class KeptResult:
    """A result that is kept: its settings, summary, test scores by task, and what it was computed on."""

    path: Path
    config: Config
    summary: Document
    tasks: str
    scores: Floats
    environment: list[Document]

    @property
    def task_scores(self) -> TaskScores:
        """The scores as those after the last update alone, (tasks, 1)."""
        return TaskScores(self.scores[:, None], self.scores[:, None])


def keep(run: RunFolder, out: Path) -> None:
    """Write what is kept of a finished run into the folder ``out``; :class:`PamelaError` if that fails."""
    summary = run.read_summary()
    if summary is None:
        raise PamelaError(f"{run.path} is not finished; go on with it by --resume.")
    config, _ = run.read_config()
    test = read_scores(run.scores, config)["test"]
    # Six digits: the seventh is rounding.
    scores = [float(f"{value:.6g}") for value in test.scores.final]
    parts = {
        "config.toml": run.config_file.read_text(encoding="utf-8"),
        "summary.json": _json(summary),
        "environment.json": _json(run.environment()),
        "metrics.csv": _thinned(list(run.metrics()), summary),
        "scores.json": json.dumps(finite({"tasks": test.tasks, "test": scores})) + "\n",
        "checkpoint.json": _json(_about(run.best)),
    }
    for name, text in parts.items():
        write_atomically(out / name, text)


def kept_result(planned: PlannedCell, results: Path) -> KeptResult | None:
    """What is kept of a cell; None where there is nothing, or it has other settings than the plan has now."""
    kept = _read(results / planned.name)
    if kept is None:
        return None
    expected = resolve([recipe(planned.dataset), planned.layer])
    same = replace(kept.config, store_sha256=None, image_size=None, channels=None) == expected
    return kept if same else None


def _read(path: Path) -> KeptResult | None:
    """What :func:`keep` has written into a folder; None where it is not there, or not whole."""
    folder = RunFolder(path)
    try:
        config, _ = folder.read_config()
        summary, scores = folder.read_summary(), read_json(path / "scores.json")
        values = np.array([np.nan if v is None else v for v in scores["test"]], np.float64)
        tasks = str(scores["tasks"])
    except (PamelaError, OddFileError, KeyError, TypeError, ValueError):
        return None
    if summary is None or values.ndim != 1 or len(values) != config.test_tasks:
        return None
    return KeptResult(path, config, summary, tasks, values, folder.environment())


def _json(value: Any) -> str:
    return json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n"


def _thinned(metrics: list[Document], summary: Mapping[str, Any]) -> str:
    """Means over as many windows of training as there is room for, and every validation."""
    name = "mse" if "mse" in summary["test"] else "accuracy"
    training = [m for m in metrics if "val_scores" not in m]
    size = max(1, -(-len(training) // _LINES))
    rows: list[tuple[int, dict[str, Any]]] = []
    for start in range(0, len(training), size):
        part = training[start : start + size]
        means = {key: _mean(part, key) for key in ("loss", name, "gradient_norm", "tasks_per_second")}
        rows.append((part[-1]["step"], {**means, "skipped": sum(m["skipped"] for m in part)}))
    rows += [
        (m["step"], {k: m[k] for k in (f"val_{name}", "val_ci95")}) for m in metrics if "val_scores" in m
    ]
    header = ["step", "loss", name, "gradient_norm", "skipped", "tasks_per_second", f"val_{name}", "val_ci95"]
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    for step, values in sorted(rows, key=lambda row: row[0]):
        writer.writerow({"step": step} | {key: _short(value) for key, value in values.items()})
    return text.getvalue()


def _mean(lines: list[Document], key: str) -> float | None:
    values = [m[key] for m in lines if m.get(key) is not None]
    return sum(values) / len(values) if values else None


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _about(path: Path) -> Document:
    """A checkpoint's checksum and step, and of each of its tensors the shape and the spread of numbers."""
    checkpoint = Checkpoint.read(path)
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "step": checkpoint.progress.get("step"),
        "tensors": {name: _spread(tensor.numpy()) for name, tensor in checkpoint.tensors.items()},
    }


def _spread(numbers: Any) -> Document:
    least, median, largest = np.quantile(numbers, [0, 0.5, 1]).tolist()
    mean = float(numbers.mean(dtype=np.float64))
    return {"shape": list(numbers.shape), "mean": mean, "least": least, "median": median, "largest": largest}

"""What a run folder holds, read for a report: what is damaged is left out and reported, never an error.

Only the settings must be readable: without them a folder is not a run.
"""

from __future__ import annotations

from dataclasses import dataclass

from data_prep.archives.base import file_sha256
from pamela_cli.checkpoints import progress_in
from pamela_cli.config import Config
from pamela_cli.engine.checkpoint import Checkpoint, CheckpointError
from pamela_cli.errors import PamelaError
from pamela_cli.evaluations import evaluations
from pamela_cli.inputs import Inputs
from pamela_cli.measures import Measure
from pamela_cli.metrics import drawable
from pamela_cli.problem import network, update_rule
from pamela_cli.progress import Progress
from pamela_cli.results import Document
from pamela_cli.runs import RunFolder
from pamela_cli.scores import StoredScores, read_scores


@dataclass(frozen=True)
class ReadRun:
    """A run: settings, how it was computed, and what there is of results.

    ``summary`` is None for a run that is not finished; ``metrics`` are the sound lines; ``step`` is the
    outer step of the last checkpoint; ``divergence`` says why there is no result where the run has diverged;
    ``fit`` is how own images were made square; ``evaluations`` are what `evaluate` has found of the best
    checkpoint, ``outdated`` how many there are of earlier ones; ``lowered`` the plans taken when memory ran
    out; ``faults`` are sentences on what is damaged.
    """

    folder: RunFolder
    config: Config
    plan: Document
    summary: Document | None
    metrics: list[Document]
    scores: dict[str, StoredScores]
    step: int
    divergence: str | None
    fit: str
    evaluations: list[Document]
    outdated: int
    lowered: list[Document]
    faults: list[str]

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.folder.name

    @property
    def validations(self) -> list[Document]:
        """The lines of metrics of its validations, in order."""
        return [m for m in self.metrics if f"val_{self.config.measure.name}" in m]


def read_run(folder: RunFolder) -> ReadRun:
    """Read a run folder; :class:`PamelaError` if its settings cannot be read."""
    config, recorded = folder.read_config()
    faults: list[str] = []
    summary = _summary(folder, faults)
    scores: dict[str, StoredScores] = {}
    if folder.scores.exists():
        try:
            scores = read_scores(folder.scores, config)
        except PamelaError:
            faults.append(
                "Its scores.safetensors is damaged: what needs the score of every task is left out."
            )
    metrics = _metrics(folder, config.measure, faults)
    inputs = Inputs.read(recorded, config)
    fit = "crop" if inputs is None else inputs.preparation.fit
    plan, progress = recorded.get("plan", {}), _progress(folder, config, faults)
    why = progress.divergence(config) if summary is None else None
    found = evaluations(folder)
    current = _of_best(folder, found)
    return ReadRun(
        folder, config, plan, summary, metrics, scores, progress.step, why, fit,
        current, len(found) - len(current), progress.lowered, faults,
    )  # fmt: skip


def _of_best(folder: RunFolder, found: list[Document]) -> list[Document]:
    """What was found of the best checkpoint that there is; all, where there is none any more."""
    if not found or not folder.best.is_file():
        return found
    try:
        checkpoint = file_sha256(folder.best)
    except OSError:
        return found
    return [each for each in found if each.get("checkpoint") in (checkpoint, None)]


def _summary(folder: RunFolder, faults: list[str]) -> Document | None:
    try:
        return folder.read_summary()
    except PamelaError:
        faults.append("Its summary.json is damaged: delete it, and --resume tests the run again.")
        return None


def _metrics(folder: RunFolder, measure: Measure, faults: list[str]) -> list[Document]:
    file = folder.metrics_file
    try:
        found = drawable(folder.metrics(), measure)
        damaged = not found and file.exists() and file.stat().st_size > 0
    except PamelaError:
        found, damaged = [], True
    if damaged:
        faults.append("Its metrics.jsonl is damaged: there are no training curves.")
    return found


def _progress(folder: RunFolder, config: Config, faults: list[str]) -> Progress:
    if not folder.last.exists():
        return Progress()
    try:
        rule = update_rule(config, network(config))
        return progress_in(Checkpoint.read(folder.last, rule), config)
    except (CheckpointError, PamelaError):
        faults.append("Its last.safetensors is damaged: the run cannot continue from there.")
        return Progress()

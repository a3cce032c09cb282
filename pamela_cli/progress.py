"""How far a run is, and its checkpoints: the last one, and the one before in case that is damaged."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pamela_cli.console import Console
from pamela_cli.engine.checkpoint import Checkpoint, CheckpointError
from pamela_cli.engine.outer_loop import OuterLoop
from pamela_cli.errors import PamelaError
from pamela_cli.files import keep_as
from pamela_cli.runs import RunFolder


@dataclass
class Progress:
    """How far a run is: with the tensors of a checkpoint, all that decides its further course.

    ``window`` holds the metrics of the steps since the last line; ``validated`` is the step of the
    last validation; ``best`` its best record so far; ``lowered`` the plans taken when memory ran out.
    """

    step: int = 0
    seconds: float = 0.0
    skipped: int = 0
    validated: int = -1
    best: dict[str, Any] | None = None
    window: list[list[float]] = field(default_factory=list)
    recent_skips: list[int] = field(default_factory=list)
    lowered: list[dict[str, Any]] = field(default_factory=list)


def save(folder: RunFolder, loop: OuterLoop, progress: Progress) -> None:
    """Write the last checkpoint, and keep the one so far as the one before."""
    checkpoint = Checkpoint.of(loop.learner, asdict(progress), loop.state())
    keep_as(folder.last, folder.previous)
    checkpoint.write(folder.last)


def restored(folder: RunFolder, loop: OuterLoop, console: Console) -> Progress:
    """Bring the learner and the optimizer to the last checkpoint; fresh ones stay so where there is none yet.

    If it is damaged, to the one before, which is said; :class:`PamelaError` if that is no use either.
    """
    last, previous = folder.last, folder.previous
    if not last.exists() and not previous.exists():
        return Progress()
    try:
        if not last.exists():
            raise CheckpointError(f"there is no {last}")
        return _restored(last, loop)
    except CheckpointError as fault:
        if not previous.exists():
            raise PamelaError(f"the run cannot go on from {last}: {fault}.") from fault
        try:
            progress = _restored(previous, loop)
        except CheckpointError as error:
            raise PamelaError(f"the run cannot go on: {fault}; and the one before: {error}.") from error
        if loop.runner.processes.leads:
            keep_as(previous, last)  # or the damaged one would be kept in its place
        before = f"going on from the checkpoint before, of step {progress.step:,}"
        console.warn(f"{last} cannot be used ({fault}); {before}.")
        return progress


def _restored(path: Path, loop: OuterLoop) -> Progress:
    checkpoint = Checkpoint.read(path)
    optimizer = checkpoint.restore(loop.learner)
    try:
        progress = Progress(**checkpoint.progress)
        loop.load_state(optimizer, progress.step)
    except TypeError as error:
        raise CheckpointError(f"{path} has not the progress of a run ({error})") from error
    return progress

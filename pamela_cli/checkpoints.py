"""The checkpoints of a run: the last one, the one before in case that is damaged, and the best."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pamela_cli.config import Config
from pamela_cli.console import Console
from pamela_cli.engine.checkpoint import Checkpoint, CheckpointError
from pamela_cli.engine.outer_loop import OuterLoop
from pamela_cli.errors import PamelaError
from pamela_cli.files import keep_as
from pamela_cli.progress import Progress
from pamela_cli.runs import RunFolder
from pamela_cli.starting import begin
from pamela_cli.untrusted import OddFileError, is_unicode


def save(folder: RunFolder, loop: OuterLoop, progress: Progress) -> None:
    """Write the last checkpoint, and keep the one so far as the one before."""
    checkpoint = Checkpoint.of(loop.learner, asdict(progress), loop.state())
    folder.keep_metrics()
    keep_as(folder.last, folder.previous)
    checkpoint.write(folder.last)


def progress_in(checkpoint: Checkpoint, config: Config) -> Progress:
    """How far the run of a checkpoint was; :class:`CheckpointError` if it cannot have been there."""
    try:
        return Progress.of(checkpoint.progress, config)
    except OddFileError as error:
        raise CheckpointError(str(error)) from error


def divergence_of(folder: RunFolder) -> str | None:
    """Why a run ended without a result, if it has diverged, as far as its last checkpoint tells."""
    try:
        config, _ = folder.read_config()
        return progress_in(Checkpoint.read(folder.last), config).divergence(config)
    except (PamelaError, CheckpointError):
        return None


def restored(folder: RunFolder, config: Config, loop: OuterLoop, console: Console) -> Progress:
    """Bring the learner and the optimizer to the last checkpoint; where there is none yet, fresh ones begin.

    If it is damaged, to the one before, which is said; :class:`PamelaError` if that is no use either.
    """
    last, previous = folder.last, folder.previous
    if not last.exists() and not previous.exists():
        begin(folder, config, loop.learner)
        return Progress()
    try:
        if not last.exists():
            raise CheckpointError(f"there is no {last}")
        progress = _restored(last, config, loop)
    except CheckpointError as fault:
        if not previous.exists():
            raise PamelaError(f"the run cannot continue from {last}: {fault}.") from fault
        try:
            progress = _restored(previous, config, loop)
        except CheckpointError as error:
            raise PamelaError(
                f"the run cannot continue: {fault}; and the previous checkpoint: {error}."
            ) from error
        if loop.runner.processes.leads:
            keep_as(previous, last)  # or the damaged one would be kept in its place
        before = f"continuing from the previous checkpoint, of step {progress.step:,}"
        console.warn(f"{last} cannot be used ({fault}); {before}.")
    check_best(folder, progress, loop, console)
    return progress


def _restored(path: Path, config: Config, loop: OuterLoop) -> Progress:
    checkpoint = Checkpoint.read(path, loop.learner.rule)
    optimizer = checkpoint.restore(loop.learner)
    progress = progress_in(checkpoint, config)
    loop.load_state(optimizer, progress.step)
    return progress


def say_finished(folder: RunFolder, console: Console) -> None:
    """Say that a run is finished; :class:`PamelaError` if its best checkpoint has been lost since."""
    if is_unicode(str(folder.best)):  # other names cannot be opened by the format's library
        try:
            Checkpoint.read(folder.best)
        except CheckpointError as error:
            names = ", ".join(path.name for path in (folder.summary_file, folder.last, folder.previous))
            raise _lost(f"{folder.path} is finished, but {error}", f"its {names},") from error
    console.say(f"run {folder.path} is finished")


def check_best(folder: RunFolder, progress: Progress, loop: OuterLoop, console: Console) -> None:
    """:class:`PamelaError` unless the best checkpoint is the one that validation chose.

    Where it was chosen at this very step, and the run ended before it was written, it is written now. One of
    a later step is left by a course of the run that a resumption has given up: it will be chosen again, or
    another, unless the run is at its end.
    """
    best = progress.best
    if best is None:
        return
    fault, found = None, {}
    try:
        found = Checkpoint.read(folder.best, loop.learner.rule).progress
    except CheckpointError as error:
        fault = error
    if _same(found, best):
        return
    if best["step"] == progress.step:
        if loop.runner.processes.leads:
            Checkpoint.of(loop.learner, best).write(folder.best)
            console.warn(f"{folder.best} was missing, damaged or of another step; it is written again.")
        return
    step = found.get("step")
    if type(step) is int and progress.step < step <= loop.settings.iterations:
        return
    other = f"{folder.best} is not the checkpoint that validation chose, of step {best['step']:,}"
    names = f"{folder.last.name} and {folder.previous.name},"
    raise _lost(f"the run cannot be finished: {fault or other}", names) from fault


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)  # NaN is like NaN there


def _lost(fault: str, names: str) -> PamelaError:
    return PamelaError(f"{fault}; delete {names} and --resume trains it again from the start.")

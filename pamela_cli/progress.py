"""How far a run is, and its checkpoints: the last one, and the previous one in case that is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pamela_cli.config import Config
from pamela_cli.console import Console
from pamela_cli.engine.checkpoint import Checkpoint, CheckpointError
from pamela_cli.engine.outer_loop import OuterLoop
from pamela_cli.errors import PamelaError
from pamela_cli.files import keep_as
from pamela_cli.runs import RunFolder
from pamela_cli.untrusted import is_count, is_unicode, number

WINDOW = 10
"""Outer steps that one line of metrics sums up."""

DIVERGENCE_WINDOWS = 10
"""When, over so many windows, more steps were skipped than taken, a run has diverged."""


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

    @classmethod
    def read(cls, checkpoint: Checkpoint, config: Config) -> Progress:
        """The progress in a checkpoint; :class:`CheckpointError` if no such run comes so far."""
        record = checkpoint.progress
        if not isinstance(record, dict) or record.keys() != {part.name for part in fields(cls)}:
            raise CheckpointError("it lacks the progress of a run")
        progress = cls(**record)
        for name, sound in progress._soundness(config):
            if not sound:
                raise CheckpointError(f"its progress cannot be that of such a run: '{name}' is impossible")
        return progress

    def divergence(self, config: Config) -> str | None:
        """Why the run has diverged; None if it has not."""
        judged = len(self.recent_skips) == DIVERGENCE_WINDOWS or self.step == config.iterations
        steps, skipped = min(self.step, DIVERGENCE_WINDOWS * WINDOW), sum(self.recent_skips)
        if not judged or skipped <= steps / 2:
            return None
        return f"{skipped} of the last {steps} meta-gradients before step {self.step:,} were not finite"

    def _soundness(self, config: Config) -> Iterator[tuple[str, bool]]:
        """Whether each part is what such a run can have, in order: later checks rely on earlier ones."""
        most = config.iterations
        yield "step", is_count(self.step, most)
        yield (
            "seconds",
            number(self.seconds) is not None and (self.seconds > 0 or self.step == self.seconds == 0),
        )
        yield "skipped", is_count(self.skipped, most)
        yield "validated", self.validated == -1 or is_count(self.validated, most)
        yield "best", self.best is None or _has_numbers(self.best, ("step", config.measure.name, "ci95"))
        yield "window", _all(self.window, lambda row: _all(row, _is_float) and len(row) == 4)
        few = isinstance(self.recent_skips, list) and len(self.recent_skips) <= DIVERGENCE_WINDOWS
        yield "recent_skips", few and _all(self.recent_skips, lambda skips: is_count(skips, most))
        yield "lowered", _all(self.lowered, lambda plan: isinstance(plan, dict))


def _all(values: Any, sound: Callable[[Any], bool]) -> bool:
    return isinstance(values, list) and all(sound(value) for value in values)


def _is_float(value: Any) -> bool:
    return isinstance(value, float)  # not finite ones, too


def _has_numbers(record: Any, names: Iterable[str]) -> bool:
    return isinstance(record, dict) and all(type(record.get(name)) in (int, float) for name in names)


def save(folder: RunFolder, loop: OuterLoop, progress: Progress) -> None:
    """Write the last checkpoint, and keep the one so far as the one before."""
    checkpoint = Checkpoint.of(loop.learner, asdict(progress), loop.state())
    folder.keep_metrics()
    keep_as(folder.last, folder.previous)
    checkpoint.write(folder.last)


def divergence_of(folder: RunFolder) -> str | None:
    """Why a run ended without a result, if it has diverged, as far as its last checkpoint tells."""
    try:
        config, _ = folder.read_config()
        return Progress.read(Checkpoint.read(folder.last), config).divergence(config)
    except (PamelaError, CheckpointError):
        return None


def restored(folder: RunFolder, config: Config, loop: OuterLoop, console: Console) -> Progress:
    """Bring the learner and the optimizer to the last checkpoint; fresh ones stay so where there is none yet.

    If it is damaged, to the one before, which is said; :class:`PamelaError` if that is no use either.
    """
    last, previous = folder.last, folder.previous
    if not last.exists() and not previous.exists():
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
    progress = Progress.read(checkpoint, config)
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

"""How far a run is, and whether it has diverged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from pamela_cli.config import Config
from pamela_cli.untrusted import OddFileError, is_count, number

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
    def of(cls, record: Any, config: Config) -> Progress:
        """The progress that a checkpoint holds; :class:`OddFileError` if no such run comes so far."""
        if not isinstance(record, dict) or record.keys() != {part.name for part in fields(cls)}:
            raise OddFileError("it lacks the progress of a run")
        progress = cls(**record)
        for name, sound in progress._soundness(config):
            if not sound:
                raise OddFileError(f"its progress cannot be that of such a run: '{name}' is impossible")
        return progress

    def divergence(self, config: Config) -> str | None:
        """Why the run has diverged; None if it has not."""
        judged = len(self.recent_skips) == DIVERGENCE_WINDOWS or self.step == config.iterations
        lacking = -self.step % WINDOW if self.step == config.iterations else 0  # in the last window
        steps = min(self.step, len(self.recent_skips) * WINDOW - lacking)
        skipped = sum(self.recent_skips)
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

"""Single measurements, each with its target where there is one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pamela_cli.complexity.timing import median_and_spread


@dataclass(frozen=True)
class Measure:
    """``median`` and interquartile range ``spread`` in ``unit``; ``target`` is the most it may be.

    With ``at_least``, the least.
    """

    what: str
    median: float
    spread: float
    unit: str
    target: float | None = None
    at_least: bool = False
    samples: tuple[float, ...] = ()

    @classmethod
    def of(
        cls,
        what: str,
        samples: Sequence[float],
        unit: str,
        target: float | None = None,
        at_least: bool = False,
    ) -> Measure:
        """Sum up samples."""
        return cls(what, *median_and_spread(samples), unit, target, at_least, tuple(samples))

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.median >= self.target if self.at_least else self.median <= self.target


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start

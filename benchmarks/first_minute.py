"""How far each engine comes in the first minute, starting of the process and first calls included."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from benchmarks import child
from benchmarks.comparison import Process
from benchmarks.engines import ENGINES, OURS
from benchmarks.measures import Measure
from benchmarks.setting import Setting
from data_prep.errors import first_line
from pamela_cli.console import Console

TIMES = 1.2
"""How many times the tasks of the fastest peer are wanted."""


@dataclass
class _Score:
    tasks: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


def measure(
    names: list[str], setting: Setting, seconds: float, repetitions: int, console: Console
) -> list[Measure]:
    """Tasks done and the moment of the first step; the engines in turns, each in a fresh process.

    One that fails, as for want of memory, is left out, which is said.
    """
    scores = {name: _Score() for name in names}
    with console.progress("first minute", repetitions * len(names)) as bar:
        for turn in range(repetitions):
            for i, name in enumerate(names):
                bar.update(turn * len(names) + i, name)
                if name not in scores:
                    continue
                try:
                    began = time.time()
                    with Process() as process:
                        done = process.call(child.train_for, name, setting, began, seconds)
                except (RuntimeError, MemoryError) as error:
                    console.warn(f"{name} failed: {first_line(error)}")
                    del scores[name]
                    continue
                scores[name].first.append(done[0])
                scores[name].tasks.append(setting.meta_batch * _steps_at(seconds, done))
    measures = []
    for name, score in scores.items():
        title = ENGINES[name].title
        measures += [
            Measure.of(f"{title}: tasks in {seconds:g} s", score.tasks, "tasks"),
            Measure.of(f"{title}: first step done after", score.first, "s"),
        ]
    return measures + _against_peers(scores)


def _steps_at(seconds: float, done: list[float]) -> float:
    """Steps done at that time, the last one in part."""
    return float(np.interp(seconds, [0.0, *done], range(len(done) + 1)))


def _against_peers(scores: dict[str, _Score]) -> list[Measure]:
    peers = {name: float(np.median(score.tasks)) for name, score in scores.items() if ENGINES[name].peer}
    if not peers or OURS not in scores:
        return []
    fastest = max(peers, key=lambda name: peers[name])
    ratios = np.array(scores[OURS].tasks) / np.array(scores[fastest].tasks)
    what = f"tasks of pamela's MAML over those of the fastest peer, {ENGINES[fastest].title}"
    return [Measure.of(what, ratios.tolist(), "times", TIMES, at_least=True)]

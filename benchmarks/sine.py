"""A whole training run on sine waves (paper section 4.2)."""

from __future__ import annotations

import torch

from benchmarks.measures import Measure, seconds
from pamela_cli.config import SINE, Config, Settings, resolve
from pamela_cli.datasets import recipe
from pamela_cli.engine.device import synchronise
from pamela_cli.engine.outer_loop import OuterLoop
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.problem import Problem

ITERATIONS, LONGEST = 20_000, 90.0
"""Of the paper's setting, and the seconds that they may take on 2 CPU cores."""


def measure(iterations: int, repetitions: int, device: str, method: str = "pamela") -> list[Measure]:
    """Seconds for the outer steps of a run: tasks, meta-gradient, Adam, metrics; no validation and test."""
    config = resolve([recipe(SINE), Settings({"dataset": SINE, "method": method, "iterations": iterations})])
    runs = [seconds(lambda: train(config, device)) for _ in range(repetitions)]
    per_iteration = [1000 * each / iterations for each in runs]
    target = LONGEST if iterations == ITERATIONS and device == "cpu" else None
    return [
        Measure.of(f"{method}, {iterations:,} iterations of {config.meta_batch} waves", runs, "s", target),
        Measure.of(f"{method}, an iteration", per_iteration, "ms"),
    ]


def train(config: Config, device: str) -> None:
    """The outer loop of a run, from its start."""
    problem = Problem(config, None, torch.device(device))
    runner = Runner(Plan.choose(problem.device, config.meta_batch, convolutional=False))
    loop = OuterLoop(problem.learner(), problem.objective(), runner, problem.outer_settings(), config.seed)
    for metrics in loop.run(problem.training_tasks()):
        metrics.stacked()
    synchronise(problem.device)

"""Where a run begins: at random numbers, or with what another run has learned (``--init-from``).

The numbers that it begins with are kept in its folder, so that it can be resumed, and trained again, without
the other run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from pamela_cli.config import Config, Settings
from pamela_cli.context import Context
from pamela_cli.engine.checkpoint import Checkpoint, CheckpointError
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.errors import PamelaError, UsageError
from pamela_cli.judging import load_learner, saying_what_to_lower
from pamela_cli.problem import Problem
from pamela_cli.runs import RunFolder, find_run

_CPU = torch.device("cpu")


def settle_start(
    context: Context, layers: list[Settings], config_file: Path | None, problem: Problem
) -> tuple[Problem, Checkpoint | None]:
    """The problem of a new run as it is recorded, and what the run begins with; None for random numbers.

    ``layers`` are the settings that were given, with those of ``config_file``. A file that a run has written
    begins with what that run began with, which lies beside it, or which its ``init_from`` names.
    """
    config = problem.config
    if config.init_from is None:
        if config.init_sha256 is not None:
            raise UsageError(f"{config_file} has init_sha256 without init_from, the name of a run; add it.")
        return problem, None
    wanted = next(each.values for each in reversed(layers) if "init_from" in each.values).get("init_sha256")
    beside = RunFolder(config_file.parent).init if config_file is not None else None
    if wanted is not None and beside is not None and beside.exists():
        checkpoint, what = _kept(beside, problem), str(beside)
    else:
        run = find_run(context.runs_dir, config.init_from)
        checkpoint, taken = _learned(run, problem)
        what = f"{taken} of {run.path}"
    if wanted not in (None, checkpoint.sha256):
        raise PamelaError(
            f"the run of {config_file} began with other numbers than {what} (their checksum differs); name "
            "the run to begin with by --init-from."
        )
    context.console.say(f"the run begins with {what}")
    name = RunFolder(Path(config.init_from)).name
    recorded = replace(config, init_from=name, init_sha256=checkpoint.sha256)
    return Problem(recorded, problem.store, problem.device), checkpoint


def _learned(run: RunFolder, problem: Problem) -> tuple[Checkpoint, str]:
    """A fresh learner with what the best checkpoint of ``run`` has for it, and what that is."""
    config, _ = run.read_config()
    other, learner = load_learner(run, Problem(config, None, _CPU)), _fresh(problem)
    try:
        *others, last = learner.take(other)
    except ValueError as error:
        raise UsageError(
            f"--init-from {run.path} does not fit: {error}; give the same --width and --way (any, if both "
            "have --shared-head), and images of the same shape."
        ) from error
    return Checkpoint.of(learner, {}), f"{', '.join(others)} and {last}" if others else last


def _kept(path: Path, problem: Problem) -> Checkpoint:
    """What another run with these settings began with."""
    learner = _fresh(problem)
    try:
        checkpoint = Checkpoint.read(path, learner.rule)
        checkpoint.restore(learner)
    except CheckpointError as error:
        raise PamelaError(f"{error}; name the run to begin with by --init-from.") from error
    return checkpoint


def _fresh(problem: Problem) -> Learner:
    with saying_what_to_lower():
        return Problem(problem.config, problem.store, _CPU).learner()


def begin(folder: RunFolder, config: Config, learner: Learner) -> None:
    """Bring a fresh learner to where the run in ``folder`` begins."""
    if config.init_sha256 is None:
        return
    try:
        checkpoint = Checkpoint.read(folder.init, learner.rule)
        if checkpoint.sha256 != config.init_sha256:
            raise CheckpointError(f"{folder.init} is not what it began with (its checksum differs)")
        checkpoint.restore(learner)
    except CheckpointError as error:
        raise PamelaError(f"the run in {folder.path} cannot begin: {error}; start another.") from error

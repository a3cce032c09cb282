"""Where a run begins: at random numbers, or with what another run has learned (``--init-from``).

The numbers that it begins with are kept in its folder, so that it can be resumed, and trained again, without
the other run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pamela_cli.config import SINE, Config, Settings, checked, typed
from pamela_cli.context import Context
from pamela_cli.engine.checkpoint import Checkpoint, CheckpointError
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.errors import PamelaError, UsageError
from pamela_cli.judging import load_learner, saying_what_to_lower
from pamela_cli.methods import METHODS
from pamela_cli.problem import Problem
from pamela_cli.runs import RunFolder, find_run

_CPU = torch.device("cpu")
_OTHERWISE = "name the run to begin with by --init-from."
_DECIDING = ("way", "method", "steps", "skip_interval", "inner_lr", "shared_head", "width")
"""Settings that decide what a run begins with, besides what another has learned."""


@dataclass(frozen=True)
class Start:
    """What a new run is to begin with: the best checkpoint of ``run``, or the same as an earlier run.

    ``earlier`` are then that one's settings, which have the checksum of its numbers; ``kept`` is where these
    still are, if they are.
    """

    run: RunFolder
    earlier: Mapping[str, Any]
    kept: Path | None = None


def find_start(context: Context, layers: list[Settings], config_file: Path | None) -> Start | None:
    """What the settings name to begin with, in ``config_file`` or before it; None for random numbers."""
    given = [checked(each) for each in layers]
    values = next((each for each in reversed(given) if "init_from" in each), None)
    if values is None:
        if any("init_sha256" in each for each in given):
            raise UsageError(f"{config_file} has init_sha256 without init_from, the name of a run; add it.")
        return None
    earlier = values if "init_sha256" in values else {}
    kept = RunFolder(config_file.parent).init if earlier and config_file is not None else None
    if kept is not None and kept.exists():
        return Start(RunFolder(Path(values["init_from"])), earlier, kept)
    return Start(find_run(context.runs_dir, values["init_from"]), earlier)


def settle_start(context: Context, start: Start, problem: Problem) -> tuple[Problem, Checkpoint]:
    """The problem of a new run as it is recorded, and what the run begins with."""
    config, earlier = problem.config, start.earlier
    random = ("seed",) if METHODS[config.method].q_range is not None else ()
    for name in (*_DECIDING, *random):
        if earlier.get(name, getattr(config, name)) != getattr(config, name):
            raise UsageError(
                f"{' '.join(typed(name, getattr(config, name)))} is not what the numbers that the run in "
                f"--config began with were made for; {_OTHERWISE}"
            )
    if start.kept is not None:
        checkpoint, what = _kept(start.kept, problem), str(start.kept)
    else:
        checkpoint, taken = _learned(start.run, problem)
        what = f"{taken} of {start.run.path}"
    if earlier and checkpoint.sha256 != earlier["init_sha256"]:
        raise PamelaError(
            f"{what}: these are not the numbers that the run in --config began with (the checksum differs); "
            f"{_OTHERWISE}"
        )
    context.console.say(f"the run begins with {what}")
    recorded = replace(config, init_from=start.run.name, init_sha256=checkpoint.sha256)
    return Problem(recorded, problem.store, problem.device), checkpoint


def _learned(run: RunFolder, problem: Problem) -> tuple[Checkpoint, str]:
    """A fresh learner with what the best checkpoint of ``run`` has for it, and what that is."""
    asked, (config, _) = f"--init-from {run.path} does not fit", run.read_config()
    if (config.dataset == SINE) != problem.is_sine:
        raise UsageError(f"{asked}: it was trained on {'images' if problem.is_sine else 'sine waves'}.")
    if problem.config.shared_head and not config.shared_head:
        raise UsageError(f"{asked}: it was trained without --shared-head; leave that out here, too.")
    other, learner = load_learner(run, Problem(config, None, _CPU)), _fresh(problem)
    try:
        *others, last = learner.take(other)
    except ValueError as error:
        alike = "images of the same shape, --width and --way (any, if both have --shared-head)"
        needed = "--width" if problem.is_sine else alike
        raise UsageError(f"{asked}: {error}; both need the same {needed}.") from error
    return Checkpoint.of(learner, {}), f"{', '.join(others)} and {last}" if others else last


def _kept(path: Path, problem: Problem) -> Checkpoint:
    """What an earlier run began with."""
    learner = _fresh(problem)
    try:
        checkpoint = Checkpoint.read(path, learner.rule)
    except CheckpointError as error:
        raise PamelaError(f"{error}; {_OTHERWISE}") from error
    try:
        checkpoint.restore(learner)
    except CheckpointError as error:
        raise PamelaError(f"{path} cannot be begun with: {error}; {_OTHERWISE}") from error
    return Checkpoint.of(learner, {})


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

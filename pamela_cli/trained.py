"""Runs that the command has trained, for the library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pamela_cli.config import Config
from pamela_cli.engine.device import choose_device
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.tasks import Objective
from pamela_cli.inputs import Inputs
from pamela_cli.judging import load_learner
from pamela_cli.problem import Problem
from pamela_cli.runs import RunFolder


@dataclass(frozen=True)
class Run:
    """A run that the command has trained: its settings, its best learner, and how images become its inputs.

    ``inputs`` is None for sine waves, and for runs of earlier versions that did not record it. Where
    ``config.mirror_support`` is set, the learner is meant to adapt with it, too.
    """

    config: Config
    learner: Learner
    objective: Objective
    inputs: Inputs | None


def load_run(folder: Path | str, device: str = "auto") -> Run:
    """Load a run from its folder, onto ``device``, named as for --device. No dataset is needed.

    PamelaError, with one sentence, if the run cannot be loaded; ValueError if there is no such device.
    """
    run = RunFolder(Path(folder))
    config, recorded = run.read_config()
    inputs = Inputs.read(recorded, config)
    problem = Problem(config, None, choose_device(device), inputs)
    return Run(config, load_learner(run, problem), problem.objective(), inputs)

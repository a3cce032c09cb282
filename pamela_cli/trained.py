"""Runs that the command has trained, for the library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pamela_cli.config import Config, check_arguments
from pamela_cli.engine.device import choose_device
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.tasks import Objective
from pamela_cli.inputs import Inputs
from pamela_cli.judging import check_way, load_learner, with_outputs
from pamela_cli.problem import Problem
from pamela_cli.runs import RunFolder


@dataclass(frozen=True)
class Run:
    """A run that the command has trained: its settings, its best learner, and how images become its inputs.

    ``inputs`` is None for sine waves, and for runs of earlier versions that did not record it. Where
    ``config.mirror_support`` is set, the learner is meant to adapt with it, too. ``objective`` is among as
    many classes as the run was loaded for; ``config`` has how it was trained.
    """

    config: Config
    learner: Learner
    objective: Objective
    inputs: Inputs | None


def load_run(folder: Path | str, device: str = "auto", way: int | None = None) -> Run:
    """Load a run from its folder, onto ``device``, named as for --device. No dataset is needed.

    ``way`` is the number of classes to tell apart, by default that of training: fewer, or with a shared head
    any number. PamelaError, with one sentence, if the run cannot be loaded, or not for so many; ValueError
    if there is no such device, or ``way`` is no number of classes.
    """
    run = RunFolder(Path(folder))
    config, recorded = run.read_config()
    if way is not None:
        if config.way is None:
            raise ValueError("way is for images: sine waves have no classes")
        way = check_arguments(way=way)["way"]
        check_way(config, way, f"way={way} asks for {way} classes", run.path)
    inputs = Inputs.read(recorded, config)
    problem = Problem(config, None, choose_device(device), inputs)
    learner = with_outputs(load_learner(run, problem), config, way)
    return Run(config, learner, problem.objective(way), inputs)

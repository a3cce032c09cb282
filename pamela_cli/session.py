"""Starting and resuming runs: from flags and files to a :class:`Training`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from data_prep import Store
from pamela_cli.checkpoints import say_finished
from pamela_cli.config import Config, flag, read_config_file, typed
from pamela_cli.console import Console
from pamela_cli.context import Context
from pamela_cli.datasets import open_trained_dataset
from pamela_cli.engine.checkpoint import CheckpointError
from pamela_cli.engine.compiling import can_be_compiled
from pamela_cli.engine.device import use_precision
from pamela_cli.engine.processes import Processes, ProcessLostError
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.errors import PamelaError, UsageError, reason
from pamela_cli.files import only_one
from pamela_cli.judging import saying_what_to_lower
from pamela_cli.metrics import drawable
from pamela_cli.planning import ALL, Share, new_plan, same_plan
from pamela_cli.problem import Problem
from pamela_cli.process_group import Followed, check_enough, describe, process_group
from pamela_cli.report.rerun import resume_command
from pamela_cli.results import task_text, updates_text
from pamela_cli.runs import RunFolder, create_run, default_name, find_run, free_path, run_path
from pamela_cli.settling import settle
from pamela_cli.signals import StopRequest
from pamela_cli.starting import begin, find_start, settle_start
from pamela_cli.training import Training


def train(
    context: Context,
    run: str | None,
    config_file: Path | None,
    device_name: str,
    share: Share = ALL,
    figures: bool = True,
    low_memory: bool = False,
) -> dict[str, Any]:
    """Start a run and train it to its end, on a ``share`` of the machine; returns its summary.

    ``low_memory`` makes it keep no graphs, even if there is room.
    """

    def lead(device: torch.device, processes: Processes) -> _Started:
        again = _started_again(context, run)
        if again is not None:
            return _go_on(context, again, device, processes, share)
        return _start(context, run, config_file, device, processes, share, low_memory)

    return _compute(context, lead, device_name, figures)


def resume(
    context: Context, run: str, device_name: str, share: Share = ALL, figures: bool = True
) -> dict[str, Any]:
    """Resume a run from its last checkpoint; returns its summary."""

    def lead(device: torch.device, processes: Processes) -> _Started:
        return _go_on(context, run, device, processes, share)

    return _compute(context, lead, device_name, figures)


@dataclass(frozen=True)
class _Started:
    """A run that is about to be computed here, or that has its summary."""

    folder: RunFolder
    problem: Problem | None = None
    plan: Plan | None = None
    goes_on: bool = False
    summary: dict[str, Any] | None = None


def _start(
    context: Context,
    run: str | None,
    config_file: Path | None,
    device: torch.device,
    processes: Processes,
    share: Share,
    low_memory: bool,
) -> _Started:
    """Make the run's folder, and tell the other processes where it is."""
    if run is not None:
        free_path(context.runs_dir, run)  # before a dataset is made
    layers = [read_config_file(config_file)] if config_file else []
    layers.append(context.flags)
    start, init = find_start(context, layers, config_file), None
    problem = settle(context, layers, device)
    _check_enough(problem.config, processes)
    if start is not None:
        problem, init = settle_start(context, start, problem)
    if problem.config.precision == "tf32" and device.type == "cpu":
        context.console.warn("--precision tf32 has no effect on the CPU, which computes in float32.")
    plan = new_plan(problem, processes, context.console, share, low_memory)
    folder = create_run(context.runs_dir, run, problem.config, problem.recorded(plan), init)
    if run is None and folder.name != (usual := default_name(problem.config)):
        context.console.say(f"{context.runs_dir / usual} already exists: this run is {folder.name}")
    how = f", {processes.size} processes" * (processes.size > 1) + ", with compiled functions" * plan.compiled
    context.console.say(f"run {folder.path} on {describe(device)}{how}: {_headline(problem.config)}")
    _tell(processes, folder, problem.store, plan, goes_on=False)
    return _Started(folder, problem, plan)


def _go_on(context: Context, run: str, device: torch.device, processes: Processes, share: Share) -> _Started:
    """Find the run, and tell the other processes where it is."""
    folder = find_run(context.runs_dir, run)
    config, recorded = folder.read_config()
    moved = context.flags.values.get("dataset")
    for name, value in context.flags.values.items():
        given = RunFolder(Path(value)).name if name == "init_from" else value
        if name != "dataset" and getattr(config, name) != given:
            raise UsageError(
                f"{' '.join(typed(name, given))} differs from the run, which has "
                f"{'none' if (own := getattr(config, name)) is None else ' '.join(typed(name, own))}; "
                "leave it out to continue the run, or start a new one (with what this one has learned: "
                "--init-from)."
            )
    moved = None if moved == config.dataset else moved
    # What an earlier version finished has no scores: it is tested again.
    summary = folder.read_summary() if folder.scores.exists() else None
    store = None
    if summary is None or moved is not None:
        store = open_trained_dataset(config, moved, context.data_dir, context.console)
    if summary is not None:
        say_finished(folder, context.console)
        processes.from_leader({"finished": str(folder.path)})
        return _Started(folder, summary=summary)
    _check_enough(config, processes)
    problem = Problem(config, store, device)
    plan = same_plan(recorded, problem, processes, context.console, share)
    if plan.compiled and not can_be_compiled(device):
        context.console.warn(
            "this run was computed with compiled functions, which are not available here (they need a C "
            "compiler, and on CUDA Triton); it continues without them, and rounds differently."
        )
    _tell(processes, folder, store, plan, goes_on=True)
    return _Started(folder, problem, plan, goes_on=True)


def _follow(context: Context, device: torch.device, processes: Processes) -> _Started:
    """What another process has started, or goes on with."""
    told = processes.from_leader(None)
    if told is None:
        raise Followed
    if "finished" in told:
        folder = RunFolder(Path(told["finished"]))
        return _Started(folder, summary=folder.read_summary())
    folder = RunFolder(Path(told["run"]))
    config, recorded = folder.read_config()
    store = open_trained_dataset(config, told["store"], context.data_dir, context.console)
    problem = Problem(config, store, device)
    # Not by what config.toml has: the leader may be about to write another plan there.
    plan = same_plan(recorded | {"plan": told["plan"]}, problem, processes, context.console)
    return _Started(folder, problem, plan, told["goes_on"])


@contextmanager
def _telling(processes: Processes) -> Iterator[None]:
    """Let those who wait for the leader's word know that there will be none."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, ProcessLostError):
            processes.from_leader(None)
        raise


def _tell(processes: Processes, folder: RunFolder, store: Store | None, plan: Plan, goes_on: bool) -> None:
    path = None if store is None else str(store.path)
    told = {"run": str(folder.path), "store": path, "plan": asdict(plan), "goes_on": goes_on}
    processes.from_leader(told)


def _check_enough(config: Config, processes: Processes) -> None:
    for name in ("meta_batch", "val_tasks", "test_tasks"):
        check_enough(flag(name), getattr(config, name), processes)


def _started_again(context: Context, run: str | None) -> str | None:
    """The run, if torchrun has started this command once more after a failure, and it is there."""
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) == 0:
        return None
    if run is None:
        raise UsageError("torchrun has restarted this command; name the run to continue with --run.")
    return run if run_path(context.runs_dir, run).is_dir() else None


def _compute(
    context: Context, lead: Callable[[torch.device, Processes], _Started], device_name: str, figures: bool
) -> dict[str, Any]:
    """Take the run that ``lead`` starts, or goes on with, to its end; returns its summary."""
    with process_group(context, device_name) as (device, processes):
        if not processes.leads:
            started = _follow(context, device, processes)
        else:
            with _telling(processes):
                started = lead(device, processes)
        return started.summary or _run(context, started, processes, device_name, figures)


def _run(
    context: Context, started: _Started, processes: Processes, device_name: str, figures: bool
) -> dict[str, Any]:
    problem, plan, folder = started.problem, started.plan, started.folder
    assert problem is not None and plan is not None
    use_precision(problem.config.precision)
    said = f"{folder.path} is being trained by another process; wait until that has finished, or stop it."
    lock = only_one(folder.path, said) if processes.leads else nullcontext()
    with lock, StopRequest() as stop:
        command = _resume_command(context, folder, problem.store, device_name)
        with saying_what_to_lower():
            training = Training(folder, problem, Runner(plan, processes), context.console, stop, command)
        if started.goes_on:
            if processes.leads:
                folder.record(problem.config, problem.recorded(plan))
            training.resume()
            step = f"step {training.progress.step:,} on {describe(problem.device)}"
            context.console.say(f"run {folder.path} continues from {step}")
        else:
            begin(folder, problem.config, training.learner)
        summary = training.run()
    if figures and processes.leads:
        _draw(folder, problem.config, context.console)
    return summary


def _draw(folder: RunFolder, config: Config, console: Console) -> None:
    """The figures of a finished run; that they cannot be written costs the figures only."""
    # Matplotlib is imported by whoever draws: of several processes one, and with --no-figures none.
    from pamela_cli.display.figures import run_title, training_curves
    from pamela_cli.display.trends import Trends, draw_trends

    try:
        training_curves(drawable(folder.metrics(), config.measure), folder.figures / "training", config)
        draw_trends(Trends.read(config, folder.best), folder.figures / "trends", run_title(config))
    except (OSError, CheckpointError, PamelaError) as error:
        console.warn(f"no figures: {reason(error) if isinstance(error, OSError) else error}")


def _resume_command(context: Context, folder: RunFolder, store: Store | None, device_name: str) -> str:
    """What to type in this folder to go on with a run."""
    more = []
    if device_name != "auto":
        more += ["--device", device_name]
    if store is not None and store.path.parent != context.data_dir:
        more += ["--dataset", str(store.path)]
    elif store is not None and context.data_dir != Path("data"):
        more += ["--data-dir", str(context.data_dir)]
    return resume_command(folder.path, *more)


def _headline(config: Config) -> str:
    tasks = f"{task_text(config.way, config.shot)}, {updates_text(config.steps)}"
    return (
        f"{config.method}, {config.dataset}, {tasks}, "
        f"{config.iterations:,} iterations of {config.meta_batch} tasks, seed {config.seed}"
    )

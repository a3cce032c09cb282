"""Starting runs and going on with them: from flags and files to a :class:`Training`."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from data_prep import Store
from pamela_cli.cli import Context
from pamela_cli.config import Config, Layer, flag, read_config_file, resolve
from pamela_cli.console import Console
from pamela_cli.datasets import default_dataset, open_dataset, open_trained_dataset, recipe
from pamela_cli.engine.device import NoSuchDeviceError, choose_device
from pamela_cli.engine.fitting import fit, free_bytes, graph_bytes
from pamela_cli.engine.norm_pool import can_be_compiled
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.errors import PamelaError, UsageError
from pamela_cli.problem import Problem
from pamela_cli.report.figures import run_title, training_curves
from pamela_cli.report.trends import Trends, draw_trends
from pamela_cli.results import task_text
from pamela_cli.runs import RunFolder, create_run, find_run
from pamela_cli.signals import StopRequest
from pamela_cli.training import Training


def train(
    context: Context,
    run: str | None,
    config_file: Path | None,
    device_name: str,
    cores: int | None = None,
    figures: bool = True,
) -> dict[str, Any]:
    """Start a run and take it to its end, on so many CPU cores (None: all); returns its summary."""
    console = context.console
    device = device_of(device_name)
    layers = [read_config_file(config_file)] if config_file else []
    layers.append(context.flags)
    problem = settle(context, layers, device)
    plan = _plan(problem, cores)
    folder = create_run(context.runs_dir, run, problem.config, asdict(plan))
    compiled = ", with compiled functions" if plan.compiled else ""
    console.say(f"run {folder.path} on {describe(device)}{compiled}: {_headline(problem.config)}")
    with StopRequest() as stop:
        command = _resume_command(context, folder, problem.store)
        return _run(Training(folder, problem, Runner(plan), console, stop, command), figures)


def settle(context: Context, layers: list[Layer], device: torch.device, purpose: str = "") -> Problem:
    """What is to be computed, by the settings in ``layers`` and the recipe of the dataset that they name.

    ``purpose`` names a subfolder of recipes that go over that one. Where no dataset is named, the default
    one is taken.
    """
    # Wrong settings are told before a dataset is opened, or made.
    dataset = resolve(layers).dataset or default_dataset(context.data_dir, context.console)
    name, kind, store = open_dataset(dataset, context.data_dir, context.console)
    found = Layer({"dataset": name} | _facts(store))
    _check_store(layers, found, store)
    recipes = [recipe(kind), recipe(kind, purpose)] if purpose else [recipe(kind)]
    problem = Problem(resolve([*recipes, *layers, found]), store, device)
    for note in problem.check():
        context.console.warn(note)
    return problem


def resume(context: Context, run: str, device_name: str, figures: bool = True) -> dict[str, Any]:
    """Go on with a run from its last checkpoint; returns its summary."""
    folder = find_run(context.runs_dir, run)
    config, recorded = folder.read_config()
    moved = context.flags.values.get("dataset")
    for name, value in context.flags.values.items():
        if name != "dataset" and getattr(config, name) != value:
            raise UsageError(
                f"{flag(name)} {value} differs from the run, which has {getattr(config, name)}; "
                "a run goes on with its own settings."
            )
    if moved == config.dataset:
        moved = None
    # What an earlier version finished has no scores: it is tested again.
    summary = folder.read_summary() if folder.scores.exists() else None
    store = None
    if summary is None or moved is not None:
        store = open_trained_dataset(config, moved, context.data_dir, context.console)
    if summary is not None:
        context.console.say(f"run {folder.path} is finished")
        return summary
    device = device_of(device_name)
    problem = Problem(config, store, device)
    plan = _recorded_plan(recorded, device) or _plan(problem)
    if plan.compiled and not can_be_compiled():
        context.console.warn(
            "this run was computed with compiled functions, which cannot be had here (is there a C "
            "compiler?); it goes on without, and rounds otherwise."
        )
    with StopRequest() as stop:
        command = _resume_command(context, folder, store)
        training = Training(folder, problem, Runner(plan), context.console, stop, command)
        training.resume()
        context.console.say(
            f"run {folder.path} goes on from step {training.progress.step:,} on {describe(device)}"
        )
        return _run(training, figures)


def _run(training: Training, figures: bool) -> dict[str, Any]:
    """Take a run to its end; returns its summary."""
    summary = training.run()
    if figures:
        _draw(training.folder, training.config, training.console)
    return summary


def _plan(problem: Problem, cores: int | None = None) -> Plan:
    """The fastest plan that fits into the device's free memory."""
    config, device = problem.config, problem.device
    plan = Plan.choose(device, config.meta_batch, convolutional=problem.store is not None, cores=cores)
    held = graph_bytes(problem.learner(), problem.objective(), problem.task_shape())
    return fit(plan, config.steps or 0, *held, free_bytes(device))


def _draw(folder: RunFolder, config: Config, console: Console) -> None:
    """The figures of a finished run; that they cannot be written costs the figures only."""
    try:
        training_curves(folder.metrics(), folder.figures / "training", config)
        draw_trends(Trends.read(config, folder.best), folder.figures / "trends", run_title(config))
    except OSError as error:
        console.warn(f"no figures: {error.filename}: {error.strerror}")


def device_of(name: str) -> torch.device:
    """The device of ``--device``; wrong names and absent devices are wrong usage."""
    try:
        return choose_device(name)
    except NoSuchDeviceError as error:
        raise UsageError(f"{error}.") from error


def describe(device: torch.device) -> str:
    """The device for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


def _facts(store: Store | None) -> dict[str, Any]:
    """What a run records of its store; nothing of sine waves."""
    if store is None:
        return {}
    return {"store_sha256": store.sha256, "image_size": store.image_size, "channels": store.channels}


def _resume_command(context: Context, folder: RunFolder, store: Store | None) -> str:
    """What to type in this folder to go on with a run."""
    words = ["pamela", "meta-train", "--run", str(folder.path), "--resume"]
    if store is not None and store.path.parent != context.data_dir:
        words += ["--dataset", str(store.path)]
    elif store is not None and context.data_dir != Path("data"):
        words += ["--data-dir", str(context.data_dir)]
    return shlex.join(words)


def _check_store(layers: list[Layer], found: Layer, store: Store | None) -> None:
    """Make sure that the store is the one that a file of settings was made for."""
    for layer in layers:
        wanted = layer.values.get("store_sha256")
        if wanted is not None and store is not None and wanted != found.values["store_sha256"]:
            raise PamelaError(
                f"{store.path} is not the store that {layer.origin} was made for (its checksum differs); "
                "prepare that one, or take store_sha256 out of the file to train on this one."
            )


def _recorded_plan(recorded: dict[str, Any], device: torch.device) -> Plan | None:
    """The plan of a run, to go on to the same bits; None on another device than it was made for."""
    try:
        plan = Plan(**recorded)
    except TypeError:
        return None
    return plan if torch.device(plan.device).type == device.type else None


def _headline(config: Config) -> str:
    return (
        f"{config.method}, {config.dataset}, {task_text(config.way, config.shot)}, {config.steps} updates, "
        f"{config.iterations:,} iterations of {config.meta_batch} tasks, seed {config.seed}"
    )

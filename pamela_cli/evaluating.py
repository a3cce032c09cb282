"""Evaluating trained runs on fixed tasks, alone or against each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, cast

import torch

from data_prep.archives.base import file_sha256
from data_prep.store import Store
from pamela_cli.config import SINE, Config, check_choice
from pamela_cli.context import Context
from pamela_cli.datasets import open_same_kind, open_trained_dataset
from pamela_cli.engine.device import use_precision
from pamela_cli.engine.evaluation import NormSource
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.intervals import paired_advantage
from pamela_cli.engine.processes import Processes
from pamela_cli.engine.runner import Runner
from pamela_cli.environment import computed_on
from pamela_cli.errors import PamelaError, UsageError, reason
from pamela_cli.evaluations import record_evaluation
from pamela_cli.inputs import Inputs
from pamela_cli.judged import Judged, drawings, usual_tasks
from pamela_cli.judging import SHOWN_WAVES, check_way, judge, load_learner, with_outputs
from pamela_cli.planning import plan_to_judge
from pamela_cli.problem import Problem
from pamela_cli.process_group import check_enough, process_group
from pamela_cli.results import EvaluationProtocol, result_record
from pamela_cli.runs import RunFolder, find_run, labels_of
from pamela_cli.signals import StopRequest


@dataclass(frozen=True)
class EvaluateOptions:
    """What to evaluate on; None is as trained, or the fixed tasks."""

    split: str = "test"
    tasks: int | None = None
    steps: int | None = None
    way: int | None = None
    shot: int | None = None
    query: int | None = None
    seed: int | None = None
    dataset: str | None = None
    resize: bool = False
    norm_stats: str = "query"
    tta: bool = False

    def __post_init__(self) -> None:
        check_choice("split", self.split, ("train", "val", "test"))
        check_choice("norm_stats", self.norm_stats, ("query", "support"))
        if self.resize and self.dataset is None:
            raise UsageError("--resize is for the images of another --dataset; give one.")

    def protocol(self, config: Config) -> EvaluationProtocol:
        """The protocol for a run: what is asked for, and as trained elsewhere."""
        trained = EvaluationProtocol.of(config, self.split)
        if config.dataset == SINE:
            if self.norm_stats == "support":
                raise UsageError("--norm-stats is for images: the network of sine waves has no batch norm.")
            if self.tta:
                raise UsageError("--tta is for images: sine waves have no mirror images.")
            if self.way is not None:
                raise UsageError("--way is for images: sine waves have no classes.")
            if self.query is not None:
                raise UsageError("--query is for images: sine waves are evaluated on evenly spaced points.")
        return replace(
            trained,
            way=self.way or trained.way,
            shot=self.shot or trained.shot,
            query=self.query or trained.query,
            steps=trained.steps if self.steps is None else self.steps,
            norm_stats=cast(NormSource, self.norm_stats),
            tta=self.tta,
        )


def evaluate_runs(
    context: Context, names: list[str], options: EvaluateOptions, device_name: str, figures: bool
) -> dict[str, Any]:
    """Evaluate each run; several are compared in pairs, which needs the same tasks for all."""
    folders = [find_run(context.runs_dir, name) for name in names]
    labels = labels_of(folders)
    with process_group(context, device_name) as (device, processes):
        asked = [_asked_of(context, folder, options, device) for folder in folders]
        _check_comparable(dict(zip(labels, (protocol for _, protocol in asked), strict=True)))
        judged = [
            _evaluate(context, label, folder, *each, options, processes)
            for label, folder, each in zip(labels, folders, asked, strict=True)
        ]
    if figures and processes.leads:
        for drawing in drawings(judged):
            try:
                context.console.say(f"figure: {drawing()}")
            except OSError as error:
                # The numbers are there: a run folder that may not be written to costs its figures only.
                context.console.warn(f"no figure: {reason(error)}")
    pairs = []
    for a, b in combinations(judged, 2):
        higher = a.problem.objective().higher_is_better
        difference, ci95 = paired_advantage(a.scores.final, b.scores.final, higher)
        pairs.append({"a": a.label, "b": b.label, "difference": difference, "ci95": ci95})
    if processes.leads:
        _keep(context, judged, pairs)
    if len(judged) == 1:
        return judged[0].record
    return {"runs": [each.record for each in judged], "pairs": pairs}


def _keep(context: Context, judged: list[Judged], pairs: list[dict[str, Any]]) -> None:
    """Record each result in its run's folder; where that is impossible, only the record is lost."""
    environment = computed_on(judged[0].problem.device)
    for each in judged:
        own = [pair for pair in pairs if pair["a"] != pair["b"] and each.label in (pair["a"], pair["b"])]
        try:
            record_evaluation(each.folder, each.record, own, each.checkpoint, environment)
        except PamelaError as error:
            context.console.warn(f"not recorded: {error}")


def _learned(folder: RunFolder, problem: Problem) -> tuple[Learner, str]:
    """The best checkpoint and its SHA-256, read until both are of one: the run may be in training."""
    seen = None
    while True:
        learner = load_learner(folder, problem)
        found = file_sha256(folder.best)
        if found == seen:
            return learner, found
        seen = found


def _evaluate(
    context: Context,
    label: str,
    folder: RunFolder,
    problem: Problem,
    protocol: EvaluationProtocol,
    options: EvaluateOptions,
    processes: Processes,
) -> Judged:
    use_precision(problem.config.precision)
    task = problem.task_shape(protocol.way, protocol.shot, protocol.query, protocol.tta)
    count = options.tasks or usual_tasks(problem)
    check_enough("--tasks", count, processes)
    plan = plan_to_judge(problem, options.split, task, len(processes.share(count)))
    learner, checkpoint = _learned(folder, problem)
    if processes.from_leader(checkpoint) != checkpoint:
        raise PamelaError(
            f"{folder.best} is not the same for all processes: the run is being trained, or their folders "
            "differ; try again."
        )
    learner = with_outputs(learner, problem.config, protocol.way)
    tasks = problem.fixed_tasks(
        options.split, count, way=protocol.way, shot=protocol.shot, query=protocol.query,
        seed=options.seed, mirror_support=protocol.tta,
    )  # fmt: skip
    if tasks.left_out:
        context.console.warn(
            f"{tasks.left_out} classes of {options.split} have too few images and are left out."
        )
    if not problem.is_sine and tasks.frozen is None and tasks.seed is None:
        context.console.say(
            f"{label}: its {count:,} tasks are drawn with a fixed seed; they are not the store's frozen "
            "ones, which are 600, with 15 queries, for 5 and 20 ways and 1 and 5 shots"
        )
    runner = Runner(plan, processes)
    with StopRequest() as stop, context.console.progress(f"evaluating {label}", count) as bar:

        def heard(done: int) -> None:
            bar.update(done)
            stop.check("nothing was written")  # of several processes, the others notice it

        scores = judge(
            learner, problem.objective(protocol.way), tasks, runner, protocol.steps, heard,
            norm_stats=protocol.norm_stats, mirror_query=protocol.tta,
        )  # fmt: skip
        stop.check("nothing was written")
    if runner.lowered:
        least = runner.lowered[-1]
        context.console.warn(
            f"memory ran out while {label} was evaluated: it went on with {least.workers} × "
            f"{least.judged_at_a_time} tasks at a time, which gives the same results up to rounding."
        )
    for why in runner.refusals():
        context.console.warn(f"{why}.")
    if not folder.summary_file.exists():
        context.console.warn(f"{label} is not finished: this is its best checkpoint so far.")
    record = result_record(label, problem.config, protocol, tasks, scores)
    waves = next(tasks.batches(SHOWN_WAVES)) if problem.is_sine else None
    return Judged(label, folder, problem, learner, protocol, scores, record, waves, checkpoint)


def _asked_of(
    context: Context, folder: RunFolder, options: EvaluateOptions, device: torch.device
) -> tuple[Problem, EvaluationProtocol]:
    """What a run is to be judged on, and how."""
    config, recorded = folder.read_config()
    protocol = options.protocol(config)
    if options.way is not None:
        check_way(config, options.way, f"--way {options.way} asks for {options.way} classes", folder.path)
    store = _open_store(context, config, options)
    inputs = Inputs.read(recorded, config)
    if store is not None:
        shape = (store.image_size, store.channels)
        resized = shape != (config.image_size, config.channels)
        protocol = replace(protocol, dataset=store.path.stem, resized=resized)
        if inputs is None and store.sha256 != config.store_sha256:
            raise PamelaError(
                f"{folder.path} comes from an earlier version that did not record how images "
                f"were standardised, so it cannot be tested on {store.path}; test it on the "
                "dataset it was trained on."
            )
    return Problem(config, store, device, inputs), protocol


def _open_store(context: Context, config: Config, options: EvaluateOptions) -> Store | None:
    """What the run is to be judged on: what it was trained on, or --dataset; None for sine waves."""
    if options.dataset is None:
        return open_trained_dataset(config, None, context.data_dir, context.console)
    return open_same_kind(config, options.dataset, context.data_dir, context.console, options.resize)


def _check_comparable(protocols: dict[str, EvaluationProtocol]) -> None:
    """Pairs are compared task by task: the tasks must be the same, whatever else differs."""
    (first, one), *others = protocols.items()
    for label, other in others:
        for name in ("dataset", "way", "shot", "query"):
            a, b = getattr(one, name), getattr(other, name)
            if a != b:
                raise UsageError(
                    f"{first} and {label} cannot be compared on the same tasks: "
                    f"{name} is {a} in one and {b} in the other."
                )

"""Evaluating trained runs on fixed tasks, alone or against each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import combinations
from typing import Any, cast

import torch

from data_prep.archives.base import file_sha256
from data_prep.store import Store
from pamela_cli.config import SINE, Config, check_choice
from pamela_cli.context import Context
from pamela_cli.datasets import open_same_kind, open_trained_dataset
from pamela_cli.display.figures import fitted_waves, loss_by_update
from pamela_cli.engine.device import use_precision
from pamela_cli.engine.evaluation import NormSource, TaskScores
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.intervals import paired_advantage
from pamela_cli.engine.processes import Processes
from pamela_cli.engine.runner import Runner
from pamela_cli.engine.tasks import Tasks
from pamela_cli.environment import computed_on
from pamela_cli.errors import PamelaError, UsageError, reason
from pamela_cli.evaluations import record_evaluation
from pamela_cli.inputs import Inputs
from pamela_cli.judging import SHOWN_WAVES, check_way, fit_curves, judge, load_learner, with_outputs
from pamela_cli.measures import measure_of
from pamela_cli.planning import plan_to_judge
from pamela_cli.problem import Problem
from pamela_cli.process_group import check_enough, process_group
from pamela_cli.results import (
    EvaluationProtocol,
    protocol_text,
    result_record,
    task_text,
    updates_text,
)
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


@dataclass(frozen=True)
class Judged:
    """A run with its learner, and what it achieved; ``label`` is what it is called beside others.

    ``record`` is its result as a document, ``waves`` the first tasks, of sine waves, ``checkpoint`` the
    SHA-256 of what was judged. It holds on to no images: there may be many runs.
    """

    label: str
    folder: RunFolder
    problem: Problem
    learner: Learner
    protocol: EvaluationProtocol
    scores: TaskScores
    record: dict[str, Any]
    waves: Tasks | None
    checkpoint: str


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
        try:
            for path in _draw(judged):
                context.console.say(f"figure: {path}")
        except OSError as error:
            # The numbers are there: a run folder that may not be written to costs the figures only.
            context.console.warn(f"no figures: {reason(error)}")
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
    try:
        environment = computed_on(judged[0].problem.device)
        for each in judged:
            own = [pair for pair in pairs if each.label in (pair["a"], pair["b"])]
            record_evaluation(each.folder, each.record, own, each.checkpoint, environment)
    except PamelaError as error:
        context.console.warn(f"not recorded: {error}")


def _usual_tasks(problem: Problem) -> int:
    """How many tasks are asked for where nobody says so."""
    return 1000 if problem.is_sine else 600


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
    count = options.tasks or _usual_tasks(problem)
    check_enough("--tasks", count, processes)
    plan = plan_to_judge(problem, options.split, task, len(processes.share(count)))
    learner = with_outputs(load_learner(folder, problem), problem.config, protocol.way)
    checkpoint = file_sha256(folder.best)  # `load_learner` has found it readable
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


def _draw(judged: list[Judged]) -> list[str]:
    """Loss by inner update for all runs together, in the first one's folder; fitted waves for each."""
    first = judged[0]
    p = first.protocol
    title = f"{p.dataset} {p.split}, {task_text(p.way, p.shot)}, {len(first.scores.final)} tasks"
    title += "" if first.record["seed"] is None else f" of seed {first.record['seed']}"
    title += "\n" + protocol_text(*(each.record for each in judged)).replace("; ", "\n")
    unit = measure_of(p.way).loss_unit
    labelled = [(each.label, each.scores) for each in judged]
    trained = [each.problem.config.steps or 0 for each in judged]
    stem = first.folder.figures / f"loss-by-update-{p.split}{_apart(judged)}"
    drawn = [loss_by_update(labelled, stem, title, trained, unit)]
    if p.way is None:
        drawn += [_draw_waves(each, each.waves) for each in judged if each.waves]
    return [str(path) for path in drawn]


def _apart(judged: list[Judged]) -> str:
    """What sets a figure apart, in its name, from that of the run alone judged as it was trained."""
    first, p = judged[0], judged[0].protocol
    usual = EvaluationProtocol.of(first.problem.config, p.split)
    seed = first.record["seed"]
    partners = sha256("\0".join(each.label for each in judged[1:]).encode(errors="surrogateescape"))
    parts = [
        (p.dataset != usual.dataset, p.dataset),
        ((p.way, p.shot) != (usual.way, usual.shot), f"{p.way}w{p.shot}s" if p.way else f"{p.shot}s"),
        (p.query != usual.query, f"{p.query}q"),
        (p.steps != usual.steps, f"n{p.steps}"),
        (p.norm_stats != usual.norm_stats, f"{p.norm_stats}-stats"),
        (p.tta, "tta"),
        (p.resized, "resized"),
        (seed is not None, f"seed{seed}"),
        (len(first.scores.final) != _usual_tasks(first.problem), f"{len(first.scores.final)}tasks"),
        (len(judged) > 1, f"{len(judged)}-runs-{partners.hexdigest()[:6]}"),
    ]
    return "".join(f"-{part}" for differs, part in parts if differs)


def _draw_waves(judged: Judged, waves: Tasks) -> Any:
    """The first waves of the task set, with the curve after each update (paper figure 4)."""
    p = judged.protocol
    curves = fit_curves(judged.learner, judged.problem, waves, p.steps)
    apart = ("" if p.split == "test" else f"-{p.split}") + _apart([judged])
    title = f"{judged.label}: {p.split} waves, {task_text(p.way, p.shot)}, {updates_text(p.steps)}"
    return fitted_waves(title, *curves, judged.folder.figures / f"fitted-waves{apart}")

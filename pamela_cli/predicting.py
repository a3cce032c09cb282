"""Labelling a user's own images, after adapting a run to a few labelled ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from data_prep.errors import DataError
from data_prep.machine import available_cores
from data_prep.pictures import Query, find_queries, read_queries, read_support
from data_prep.store.format import Images
from data_prep.thumbnails import evenly
from pamela_cli.adapted import AdaptedRun, check_free
from pamela_cli.config import SINE, Config, check_choice
from pamela_cli.context import Context
from pamela_cli.datasets import open_trained_dataset
from pamela_cli.display.prediction_sheet import is_sheet, write_sheet
from pamela_cli.engine.device import use_precision
from pamela_cli.engine.evaluation import NormSource
from pamela_cli.engine.intervals import Floats, proportion_interval
from pamela_cli.engine.mirror import averaged, mirrored
from pamela_cli.engine.prediction import adapted
from pamela_cli.engine.runner import Plan, is_out_of_memory, settle_process
from pamela_cli.engine.tasks import Classification
from pamela_cli.errors import PamelaError, UsageError, holds_something_else
from pamela_cli.inputs import Inputs
from pamela_cli.judging import check_way, load_learner, with_outputs
from pamela_cli.problem import Problem
from pamela_cli.process_group import device_to_compute_on
from pamela_cli.runs import RunFolder, find_run
from pamela_cli.signals import StopRequest

SHOWN = 60
"""Images on the sheet at most."""

_AT_A_TIME = 256
"""Images in memory at a time, where they do not normalise each other."""


@dataclass(frozen=True)
class PredictOptions:
    """How to predict: updates (None: as trained), batch norm's statistics, labels told of each image.

    With ``tta`` it adapts to mirror images of the support, too, and outputs are averaged over each image and
    its mirror image.
    ``save`` is where to keep the adapted network, ``figure`` where to draw the sheet (None: by the run).
    """

    steps: int | None = None
    norm_stats: str = "support"
    top: int = 1
    save: Path | None = None
    figure: Path | None = None
    figures: bool = True
    tta: bool = False

    def __post_init__(self) -> None:
        check_choice("norm_stats", self.norm_stats, ("query", "support"))
        if self.figure is not None and self.figure.suffix.lower() != ".png":
            raise UsageError(f"--figure {self.figure} must end in .png, the format that is drawn.")
        if self.figure is not None and self.figure.is_file() and not is_sheet(self.figure):
            raise holds_something_else("--figure", self.figure)
        if self.save is not None:
            check_free(self.save)


def predict(
    context: Context, given: Sequence[str], options: PredictOptions, device_name: str
) -> tuple[dict[str, Any], str | None]:
    """Adapt RUN to SUPPORT_DIR, or take what was adapted earlier, and label the queries.

    Returns the document, and why a figure that was asked for is not there.
    """
    device = device_to_compute_on(device_name)
    with _saying_what_does_not_fit():
        if Path(given[0]).is_file():
            kept = Path(given[0])
            known, rest = _load(given, options, device), given[1:]
            examples: set[Path] = set()
            sheet = kept.with_name(f"{kept.stem}-predictions.png")
        else:
            folder = find_run(context.runs_dir, given[0])
            if len(given) == 1:
                raise UsageError("SUPPORT_DIR is missing: a folder with a folder of images for each class.")
            known, examples = _adapt(context, folder, Path(given[1]), options, device)
            rest = given[2:]
            sheet = folder.figures / "predictions.png"
        if not rest and options.save is None:
            raise UsageError("QUERY is missing: images to label, or folders of them.")
        queries, notes = find_queries(rest, known.classes)
        for note in notes:
            context.console.warn(note)
        if again := sum(Path(query.path).resolve() in examples for query in queries):
            context.console.warn(
                f"some images to label are also examples in {given[1]} ({again} of {len(queries)}): the "
                "network was adapted to them, and may be less sure of others."
            )
        if options.save is not None:  # before the labels: a fault of the file must not cost them
            known.save(options.save)
        labelled = _label(context, known, queries, cast(NormSource, options.norm_stats))
    document = _document(known, labelled, options)
    fault, named = None, options.figure is not None
    if options.figures and labelled.queries:
        fault = _draw(context, document, labelled.images, options.figure or sheet, named)
    if fault is not None and not named:
        context.console.warn(f"no figure: {fault}")
        fault = None
    return document, fault


def _load(given: Sequence[str], options: PredictOptions, device: torch.device) -> AdaptedRun:
    for option, asked in (("--steps", options.steps is not None), ("--tta", options.tta)):
        if asked:
            raise UsageError(f"{option} is for a RUN that is adapted now; {given[0]} is already adapted.")
    known = AdaptedRun.load(Path(given[0]), device)
    _settle(known.config, device)
    return known


def _settle(config: Config, device: torch.device) -> None:
    """Have this process compute with all cores, as precisely as the run was."""
    settle_process(Plan.choose(device, 1, convolutional=True))
    use_precision(config.precision)


def _adapt(
    context: Context, folder: RunFolder, support_dir: Path, options: PredictOptions, device: torch.device
) -> tuple[AdaptedRun, set[Path]]:
    """The network adapted to a folder's examples, and where these are."""
    config, recorded = folder.read_config()
    if config.dataset == SINE:
        raise UsageError(
            f"{folder.path} was trained on sine waves; to label images, pass a run trained on images."
        )
    inputs = Inputs.read(recorded, config) or _inputs_of_store(context, config)
    problem = Problem(config, None, device, inputs)
    learner = load_learner(folder, problem)

    def check(classes: list[str]) -> None:
        check_way(config, len(classes), f"{support_dir} has {len(classes)} classes", folder.path)

    support = read_support(support_dir, inputs.preparation, check)
    for note in support.notes:
        context.console.warn(f"{support_dir}: {note}")
    learner = with_outputs(learner, config, len(support.classes))
    _settle(config, device)
    x = inputs.tensor(support.images, problem.dtype, device)
    labels = torch.from_numpy(support.labels).to(device)
    steps = learner.rule.steps if options.steps is None else options.steps
    mirror = config.mirror_support or options.tta
    network = adapted(learner, Classification(len(support.classes)), x, labels, steps, mirror)
    counts = dict(zip(support.classes, np.bincount(support.labels).tolist(), strict=True))
    examples = {(support_dir / file).resolve() for file in support.files}
    return AdaptedRun(folder.name, config, inputs, counts, steps, options.tta, network), examples


def _inputs_of_store(context: Context, config: Config) -> Inputs:
    """For a run of an earlier version, which did not record them."""
    store = open_trained_dataset(config, None, context.data_dir, context.console)
    assert store is not None
    return Inputs.of(store)


@dataclass(frozen=True)
class _Labelled:
    """Queries with the probability of each class, (queries, classes), and images for the sheet by place.

    ``broken`` says of each that is left out what is wrong.
    """

    queries: list[Query]
    probabilities: Floats
    images: dict[int, Images]
    broken: list[str]


def _label(
    context: Context, known: AdaptedRun, queries: Sequence[Query], norm_stats: NormSource
) -> _Labelled:
    """Label what can be; :class:`DataError` if nothing can."""
    theta, classes = known.adapted.theta, len(known.classes)
    shown = set(evenly(len(queries), SHOWN))
    done: list[Query] = []
    kept: dict[int, Images] = {}
    parts: list[Floats] = []
    broken: list[DataError] = []

    def probabilities(block: Images) -> Floats:
        x = known.inputs.tensor(block, theta.dtype, theta.device)
        views = [x, mirrored(x)] if known.tta else [x]
        outputs = averaged(partial(known.adapted.outputs, norm_stats=norm_stats), views)
        return outputs[:, :classes].double().softmax(-1).cpu().numpy()

    # One thread to an image: so the bits do not depend on how many there are.
    torch.set_num_threads(1)
    workers = available_cores() if theta.device.type == "cpu" else 1
    with (
        StopRequest() as stop,
        context.console.progress("labelling", len(queries)) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        read = read_queries(queries, known.inputs.preparation, broken.append)
        while group := list(islice(read, _AT_A_TIME if norm_stats == "support" else len(queries))):
            images = [image for _, image in group]
            kept |= {len(done) + i: image[0] for i, image in enumerate(images) if len(done) + i in shown}
            done += [query for query, _ in group]
            parts += pool.map(probabilities, images if norm_stats == "support" else [np.concatenate(images)])
            bar.update(len(done) + len(broken))
            stop.check("nothing was written")
    if broken and not done:
        raise broken[0]
    found = np.concatenate(parts) if parts else np.empty((0, classes))
    return _Labelled(done, found, kept, sorted(map(str, broken)))


def _document(known: AdaptedRun, found: _Labelled, options: PredictOptions) -> dict[str, Any]:
    """What the command prints with ``--json`` (see docs/commands.md)."""
    order = np.argsort(-found.probabilities, axis=1, kind="stable")[:, : options.top]
    predictions = []
    for query, own, best in zip(found.queries, found.probabilities, order, strict=True):
        labels = [{"label": known.classes[k], "probability": float(own[k])} for k in best]
        predictions.append({"image": query.path, **labels[0], "truth": query.truth, "top": labels})
    judged = [p for p in predictions if p["truth"] is not None]
    hits = sum(p["label"] == p["truth"] for p in judged)
    config = known.config
    return {
        "run": known.run,
        "dataset": config.dataset,
        "method": config.method,
        "way": len(known.classes),
        "support": known.support,
        "steps": known.steps,
        "trained_steps": config.steps,
        "norm_stats": options.norm_stats,
        "mirror_support": config.mirror_support,
        "tta": known.tta,
        "accuracy": hits / len(judged) if judged else None,
        "interval95": proportion_interval(hits, len(judged)) if judged else None,
        "judged": len(judged),
        "predictions": predictions,
        "broken": found.broken,
        "saved": None if options.save is None else str(options.save),
    }


def _draw(
    context: Context, document: dict[str, Any], images: dict[int, Images], out: Path, named: bool
) -> str | None:
    """Draw the sheet; returns why it could not be: that costs the sheet only.

    Unless the user has ``named`` the place, no link of a run's folder, which may come from anywhere, is
    followed.
    """
    if not named and out.parent.name == "figures" and out.parent.is_symlink():
        return f"{out.parent} is a link, which is not followed."
    if out.exists() and not is_sheet(out):
        return f"{out} already exists and holds something else; choose another file with --figure."
    try:
        write_sheet(document, images, out)
    except PamelaError as error:
        return str(error)
    context.console.say(f"figure: {out}")
    return None


@contextmanager
def _saying_what_does_not_fit() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise PamelaError(
            "the images do not fit into memory together; pass fewer for each class, or, with "
            "--norm-stats query, fewer at a time."
        ) from error

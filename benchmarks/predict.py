"""How long `pamela predict` takes from the shell, and that it is as accurate as `pamela evaluate` says."""

from __future__ import annotations

import json
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.comparison import DifferentWorkError
from benchmarks.measures import Measure, seconds
from benchmarks.startup import PAMELA, PYTHON
from data_prep import Store
from data_prep.resizing import picture
from data_prep.store.format import Images
from pamela_cli.engine.intervals import mean_ci95

TARGET = 3.0
"""Seconds from the end of start-up until the images are labelled."""

SAME = 3
"""By how many images two accuracies on the same tasks may differ: rounding may decide a few."""


def measure(run: Path, store: Path, tasks: int, folder: Path) -> list[Measure]:
    """Label the queries of frozen test tasks of ``store``, the first ones, written as images to ``folder``.

    Each task is a command of its own, start-up and figure included; one before them warms up. Raises
    DifferentWorkError if their mean accuracy is not that of `pamela evaluate --norm-stats support`
    on the same tasks.
    """
    options = ["--dataset", str(store), "--tasks", str(tasks), "--norm-stats", "support", "--no-figures"]
    judged = _document("evaluate", str(run), *options)
    with Store.open(store) as opened:
        split = opened.split("test")
        images, rows = split.read(), split.episodes(judged["way"], judged["shot"])
    assert rows is not None, "the store has no frozen tasks of this run's way and shot"
    start_up, labelled, right = [], [], []
    for number in range(tasks):
        place = folder / str(number)
        _write_task(images, rows[number], judged["shot"], place)
        words = [
            str(run),
            str(place / "support"),
            str(place / "query"),
            "--figure",
            str(place / "figure.png"),
        ]
        if number == 0:
            _document("predict", *words)
        start_up.append(seconds(partial(subprocess.run, [*PYTHON, "-c", "import torch"], check=True)))
        start = time.perf_counter()
        document = _document("predict", *words)
        labelled.append(time.perf_counter() - start)
        right.append(document["accuracy"])
    accuracy, interval = mean_ci95(np.array(right))
    queries = rows.shape[1] * (rows.shape[2] - judged["shot"])
    if abs(accuracy - judged["accuracy"]) * queries * tasks > SAME + 0.5:
        raise DifferentWorkError(
            f"predict is correct in {accuracy:.2%}, evaluate in {judged['accuracy']:.2%}."
        )
    after = [whole - start for whole, start in zip(labelled, start_up, strict=True)]
    found = f"mean accuracy of {tasks} tasks, and its 95 % interval, by"
    return [
        Measure.of("python, importing torch", start_up, "s"),
        Measure.of(f"pamela predict, {queries} images, from the shell", labelled, "s"),
        Measure.of("the same, after start-up", after, "s", TARGET),
        Measure(f"{found} predict", 100 * accuracy, 100 * interval, "%"),
        Measure(f"{found} evaluate", 100 * judged["accuracy"], 100 * judged["ci95"], "%"),
    ]


def _write_task(images: Images, rows: NDArray[np.int32], shot: int, folder: Path) -> None:
    """Folders ``support`` and ``query`` of class folders of PNG files."""
    for label, row in enumerate(rows):
        for part, chosen in (("support", row[:shot]), ("query", row[shot:])):
            place = folder / part / f"class{label}"
            place.mkdir(parents=True, exist_ok=True)
            for number in chosen:
                picture(images[number]).save(place / f"{number}.png")


def _document(*words: str) -> dict[str, Any]:
    """What a command says with --json."""
    done = subprocess.run([*PAMELA, *words, "--json", "--quiet"], check=True, stdout=subprocess.PIPE)
    document: dict[str, Any] = json.loads(done.stdout)
    return document

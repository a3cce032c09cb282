"""How fast a store is written, opened, verified and loaded, beside reading a plain file of its size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.measures import Measure, seconds
from data_prep.store import Origin, SplitContent, Store, verify_store, write_store
from data_prep.store.writer import LabelledBlock
from pamela_cli.config import Settings, resolve
from pamela_cli.problem import Problem

SIZE, CLASS_IMAGES = 32, 600
SPLIT_SHARES = {"train": 0.64, "val": 0.16, "test": 0.20}
"""CIFAR-FS's, which has 100 classes of 600 images of 32×32 pixels: 176 MiB."""


def write(path: Path, mebibytes: int) -> None:
    """A store of about ``mebibytes`` of random images; those are as large as others, and quick to make."""
    classes = mebibytes * 2**20 / (CLASS_IMAGES * SIZE * SIZE * 3)
    splits = {name: _split(name, max(5, round(share * classes))) for name, share in SPLIT_SHARES.items()}
    origin = Origin("random", "random", lambda: "0" * 64, "none", "none")
    write_store(path, origin, splits, image_size=SIZE, channels=3)


def _split(name: str, classes: int) -> SplitContent:
    def blocks() -> Iterator[LabelledBlock]:
        generator = np.random.default_rng(0)
        for label in range(classes):
            yield label, generator.integers(0, 256, (CLASS_IMAGES, SIZE, SIZE, 3), dtype=np.uint8)

    return SplitContent([f"{name}{label:04}" for label in range(classes)], blocks(), classes * CLASS_IMAGES)


def measure(folder: Path, mebibytes: int, repetitions: int) -> list[Measure]:
    """Each in turns, from files that the system has in its cache."""
    path = folder / "random.h5"
    works: dict[str, Callable[[], object]] = {
        "write a store, random numbers included": lambda: write(path, mebibytes),
        "read a plain file of its size": path.read_bytes,
        "open the store": lambda: Store.open(path),
        "verify the store": lambda: verify_store(path),
        "open it and load its training split": lambda: load_training_split(path),
    }
    samples: dict[str, list[float]] = {what: [] for what in works}
    for _ in range(repetitions):
        for what, work in works.items():
            samples[what].append(seconds(work))
    size = f"{path.stat().st_size / 2**20:.0f} MiB"
    return [Measure.of(f"{what} ({size})", taken, "s") for what, taken in samples.items()]


def load_training_split(path: Path) -> None:
    """What a run does before its first task."""
    config = resolve([Settings({"dataset": "random", "way": 5, "image_size": SIZE, "channels": 3})])
    Problem(config, Store.open(path), torch.device("cpu")).training_tasks()

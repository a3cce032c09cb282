"""A small store for the tests of the library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_prep.store import SPLITS, Origin, SplitContent, write_store


def write_pictures(path: Path, change: Callable[[np.ndarray], object] = lambda images: None) -> Path:
    """A store of 6 classes of 17 random pictures, (16, 16, 3), in each split, each block changed in place."""
    rng = np.random.default_rng(0)

    def split() -> SplitContent:
        blocks = [(k, rng.integers(0, 256, (17, 16, 16, 3), np.uint8)) for k in range(6)]
        for _, images in blocks:
            change(images)
        return SplitContent([f"class{k}" for k in range(6)], blocks, 6 * 17)

    origin = Origin("made-up", "arrays of a test", lambda: "0" * 64, "nobody", "none")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_store(path, origin, {name: split() for name in SPLITS}, image_size=16, channels=3)
    return path

"""The frozen tasks of a store: the same for the same content on every machine and NumPy version.

They are drawn from the raw 64-bit words of Philox4x64-10, whose stream is fixed by its publication; NumPy
gives no such guarantee for `choice` and `permutation`.
"""

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError
from data_prep.store.format import QUERY, SHOTS, SPLITS, TASKS, WAYS

Settings = tuple[int, int]


def settings() -> list[Settings]:
    """Every (way, shot) for which tasks are frozen."""
    return [(way, shot) for way in WAYS for shot in SHOTS]


def usable_classes(offsets: NDArray[np.int64], shot: int) -> NDArray[np.int64]:
    """Indices of the classes that have enough images for `shot` support and 15 query images."""
    return np.flatnonzero(np.diff(offsets) >= shot + QUERY)


def draw_episodes(split: str, offsets: NDArray[np.int64], way: int, shot: int) -> NDArray[np.int32] | None:
    """Draw the frozen tasks of one split and setting.

    Returns int32 (600, way, shot + 15), indices into the split's images with the support columns first, or
    None if fewer than `way` classes have enough images.
    """
    usable = usable_classes(offsets, shot)
    if len(usable) < way:
        return None
    philox = np.random.Philox(key=(SPLITS.index(split) << 32) + (way << 16) + shot)
    tasks = np.empty((TASKS, way, shot + QUERY), np.int32)
    for task in tasks:
        chosen = usable[_sample(philox, len(usable), way)]
        for row, first, end in zip(task, offsets[chosen], offsets[chosen + 1], strict=True):
            row[:] = first + _sample(philox, int(end - first), shot + QUERY)
    return tasks


def _sample(philox: np.random.Philox, population: int, count: int) -> NDArray[np.intp]:
    """Draw `count` different numbers below `population`: the positions of the smallest random words."""
    return np.argsort(philox.random_raw(population), kind="stable")[:count]


def check_episodes(
    tasks: NDArray[np.int32], offsets: NDArray[np.int64], way: int, shot: int, where: str
) -> None:
    """Check that tasks are well formed: DataError says which rule `where` breaks.

    The rules: shape (600, way, shot + 15); indices in range; every row from one class; the classes of a task
    distinct; no image twice in a row (and so, its rows being of different classes, none twice in a task).
    """
    if tasks.shape != (TASKS, way, shot + QUERY):
        raise DataError(
            f"{where} has shape {tasks.shape}, not {(TASKS, way, shot + QUERY)}; prepare it again."
        )
    if tasks.min() < 0 or tasks.max() >= offsets[-1]:
        raise DataError(f"{where} points to images that the split does not have; prepare it again.")
    labels = np.searchsorted(offsets, tasks, side="right") - 1
    if (labels != labels[..., :1]).any():
        raise DataError(f"{where} has a row with images of more than one class; prepare it again.")
    if _repeats(labels[..., 0]):
        raise DataError(f"{where} has a task with the same class twice; prepare it again.")
    if _repeats(tasks):
        raise DataError(f"{where} has a task with the same image twice; prepare it again.")


def _repeats(values: NDArray[np.generic]) -> bool:
    """Whether a value comes twice along the last axis."""
    ordered = np.sort(values, axis=-1)
    return bool((ordered[..., 1:] == ordered[..., :-1]).any())

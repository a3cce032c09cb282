"""The frozen tasks of a store: their rules, their draw, and that all come up."""

import hashlib
from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.store import QUERY, SPLITS, TASKS
from data_prep.store.episodes import check_episodes, draw_episodes


@settings(max_examples=20)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=30),
    split=st.sampled_from(SPLITS),
    way=st.sampled_from([5, 20]),
    shot=st.sampled_from([1, 5]),
)
def test_frozen_tasks_are_valid_and_repeatable(counts: list[int], split: str, way: int, shot: int) -> None:
    offsets = np.cumsum([0, *counts]).astype(np.int64)
    tasks = draw_episodes(split, offsets, way, shot)
    if sum(count >= shot + QUERY for count in counts) < way:
        assert tasks is None
        return
    assert tasks is not None
    assert tasks.dtype == np.int32 and tasks.shape == (TASKS, way, shot + QUERY)
    again = draw_episodes(split, offsets, way, shot)
    assert again is not None
    np.testing.assert_array_equal(tasks, again)
    check_episodes(tasks, offsets, way, shot, "here")
    for task in tasks[:20]:  # the same rules once more, in plain Python
        labels = [{int(np.searchsorted(offsets, i, "right")) - 1 for i in row} for row in task]
        assert all(len(row) == 1 for row in labels)
        chosen = {label for row in labels for label in row}
        assert len(chosen) == way
        assert len(set(task.ravel().tolist())) == task.size
        assert all(counts[label] >= shot + QUERY for label in chosen)


def test_frozen_tasks_are_those_of_the_format() -> None:
    """A change here is a change of the format's version: published results name these tasks."""
    tasks = draw_episodes("test", np.arange(0, 601, 30), 5, 1)
    assert tasks is not None
    assert hashlib.sha256(tasks.astype("<i4").tobytes()).hexdigest()[:16] == "28b75ffb0329a9cf"


def philox(key: int) -> Iterator[int]:
    """Yield the words of Philox4x64-10, by Salmon et al. (2011), in Python's integers."""
    word = (1 << 64) - 1
    for counter in count(1):
        x, keys = [counter, 0, 0, 0], [key, 0]
        for _ in range(10):
            a, b = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
            x = [(b >> 64) ^ x[1] ^ keys[0], b & word, (a >> 64) ^ x[3] ^ keys[1], a & word]
            keys = [
                (k + w) & word for k, w in zip(keys, (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B), strict=True)
            ]
        yield from x


@pytest.mark.parametrize(("split", "way", "shot"), [("train", 5, 1), ("val", 5, 5), ("test", 20, 1)])
def test_frozen_tasks_can_be_drawn_by_the_page_alone(split: str, way: int, shot: int) -> None:
    """As docs/datasets.md tells, without NumPy."""
    sizes = [18 + label % 5 for label in range(30)]
    offsets = [sum(sizes[:label]) for label in range(31)]
    usable = [label for label, size in enumerate(sizes) if size >= shot + 15]
    words = philox((SPLITS.index(split) << 32) + (way << 16) + shot)

    def sample(n: int, m: int) -> list[int]:
        drawn = [next(words) for _ in range(n)]
        return sorted(range(n), key=lambda place: drawn[place])[:m]

    tasks = draw_episodes(split, np.array(offsets), way, shot)
    assert tasks is not None
    for task in tasks[:3]:
        chosen = [usable[place] for place in sample(len(usable), way)]
        rows = [[offsets[label] + place for place in sample(sizes[label], shot + 15)] for label in chosen]
        assert task.tolist() == rows


def test_every_class_and_image_comes_up() -> None:
    tasks = draw_episodes("train", np.arange(0, 601, 30), 5, 1)
    assert tasks is not None
    assert len(np.unique(tasks)) == 600
    assert np.bincount(tasks[:, :, 0].ravel() // 30, minlength=20).min() > 100  # 150 expected

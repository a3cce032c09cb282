"""Check a whole store."""

from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.store.episodes import settings, usable_classes
from data_prep.store.format import (
    SPLITS,
    ChannelStatistics,
    Progress,
    StoreSummary,
    array_line,
    content_line,
    content_sha256,
    episodes_key,
    names_line,
    no_progress,
)
from data_prep.store.reader import Split, Store


def verify_store(path: Path | str, progress: Progress | None = None) -> StoreSummary:
    """Read a whole store and check it.

    Structure, counts, the checksums of images and content, the statistics and the frozen tasks are checked.
    Calls progress("verify", images done, images in all). Raises DataError on the first fault.
    """
    with Store.open(path) as store:
        report = progress or no_progress
        total = sum(len(store.split(name).images) for name in SPLITS)
        statistics = ChannelStatistics(store.channels)
        lines: list[str] = []
        done = 0
        for split in map(store.split, SPLITS):
            for block in split.blocks():
                if split.name == "train":
                    statistics.add(block)
                done += len(block)
                report("verify", done, total)
            lines += _split_lines(split) + _episode_lines(store, split)
        if content_sha256(lines) != store.sha256:
            raise DataError(f"{path} does not match its checksum; prepare it again with --force.")
        if not all(map(np.array_equal, statistics.result(), (store.mean, store.std))):
            raise DataError(
                f"{path}: mean or std does not match the train images; prepare it again with --force."
            )
        return store.summary()


def _split_lines(split: Split) -> list[str]:
    return [
        content_line(f"{split.name}/images", "uint8", split.images.shape, split.sha256),
        array_line(f"{split.name}/class_offsets", split.class_offsets),
        names_line(f"{split.name}/class_names", split.class_names),
    ]


def _episode_lines(store: Store, split: Split) -> list[str]:
    """Check the frozen tasks of one split, and return their lines of the content checksum."""
    lines = []
    for way, shot in settings():
        where = f"episodes/{split.name}/{episodes_key(way, shot)}"
        tasks = split.episodes(way, shot)
        if tasks is None:
            if len(usable_classes(split.class_offsets, shot)) >= way:
                raise DataError(f"{store.path}: {where} is missing; prepare it again with --force.")
            continue
        lines.append(array_line(where, tasks))
    return lines

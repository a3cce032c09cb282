"""Write an episode store."""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError, LeftOpen, shortened
from data_prep.machine import nearest_there
from data_prep.store.atomic import atomic_path, cannot_write
from data_prep.store.episodes import draw_episodes, settings
from data_prep.store.format import (
    FORMAT,
    MAX_NAME_BYTES,
    SPLITS,
    VERSION,
    ChannelStatistics,
    Images,
    Progress,
    StoreSummary,
    array_line,
    content_line,
    content_sha256,
    episodes_key,
    names_line,
    no_progress,
    split_counts,
)

# Images are stored as they are: a whole split is then read at the speed of the disk, and photographs of 32 to
# 84 pixels hardly shrink under a fast lossless filter. Chunks (the only layout that can grow while streaming)
# of 1 MiB are few enough that finding them costs nothing, and waste at most 1 MiB a split.
_CHUNK_BYTES = 1 << 20

LabelledBlock = tuple[int, Images]


@dataclass(frozen=True)
class SplitContent:
    """What goes into a split.

    `class_names`, sorted; `blocks`, pairs of a class index and uint8 images (n, H, W, C) of that class, the
    classes in order, a class in any number of blocks; `images`, how many are expected, for progress.
    """

    class_names: list[str]
    blocks: Iterable[LabelledBlock]
    images: int


@dataclass(frozen=True)
class Origin:
    """Where the images of a store come from.

    `source_sha256` is called when all images are read, so that a folder is hashed while it is read. `fit` and
    `inverted` say how other pictures become like these: see `data_prep.sources.base.Source`.
    """

    dataset: str
    form: str
    source_sha256: Callable[[], str]
    citation: str
    terms: str
    fit: str = "crop"
    inverted: bool = False


def write_store(
    out: Path | str,
    origin: Origin,
    splits: Mapping[str, SplitContent],
    *,
    image_size: int,
    channels: int,
    progress: Progress | None = None,
) -> StoreSummary:
    """Write the splits train, val and test as the store `out`, replacing an existing file.

    The images are streamed; calls progress(split, images done, images expected). `out` is complete or
    untouched: an exception from a block, or KeyboardInterrupt, leaves nothing behind. DataError if `out`
    cannot be written (LeftOpen, if that comes to light on the way), a split has no classes, or a class has no
    images or no usable name.
    """
    out = Path(out)
    for name in SPLITS:
        _check_names(name, splits[name].class_names)
    _check_room(out, image_size**2 * channels * sum(splits[name].images for name in SPLITS))
    with atomic_path(out) as temporary:
        try:
            # A cache that holds a few chunks lets small blocks fill a chunk before it is written.
            with h5py.File(temporary, "w", locking=False, rdcc_nbytes=8 * _CHUNK_BYTES) as file:
                offsets, digest = _write_content(file, splits, (image_size, image_size, channels), progress)
                file.attrs.update(
                    {
                        "format": FORMAT,
                        "format_version": VERSION,
                        "dataset": origin.dataset,
                        "form": origin.form,
                        "source_sha256": _asked(origin.source_sha256),
                        "citation": origin.citation,
                        "terms": origin.terms,
                        "fit": origin.fit,
                        "inverted": "yes" if origin.inverted else "no",
                        "tool_version": _tool_version(),
                        "sha256": digest,
                    }
                )
                file.flush()
        except _Carried as carried:
            raise carried.error from None
        except (OSError, RuntimeError) as error:
            raise LeftOpen(str(cannot_write(out, error))) from error
    return StoreSummary(out, origin.dataset, origin.form, image_size, split_counts(offsets), digest)


class _Carried(Exception):
    """Carries an error of a caller's function past the handlers of errors in writing the file."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _asked(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (OSError, RuntimeError) as error:
        raise _Carried(error) from error


def _received(blocks: Iterable[LabelledBlock]) -> Iterator[LabelledBlock]:
    iterator, end = iter(blocks), object()
    while (block := _asked(next, iterator, end)) is not end:
        yield block


def _check_room(out: Path, needed: int) -> None:
    """Say before anything is written that the disk is too full: HDF5 fails to close what it cannot write."""
    folder = nearest_there(out.parent)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{out} needs {needed / 1e6:,.1f} MB, but {folder} has only {free / 1e6:,.1f} MB free; free "
            "some space, or choose another --out, and run the command again."
        )


def _check_names(split: str, names: list[str]) -> None:
    """Check that there are classes, and that what they are called can be written and read again."""
    if not names:
        raise DataError(f"{split} has no classes; give it some.")
    for name in names:
        if not _is_usable(name):
            raise DataError(
                f"{split} has a class called {shortened(name)!r}; give it a name of 1 to {MAX_NAME_BYTES:,} "
                "bytes of UTF-8 without a zero byte."
            )
    for name, following in pairwise(names):
        if name >= following:
            raise DataError(
                f"{split} has the class {shortened(following)!r} after {shortened(name)!r}; give the "
                "classes distinct names in ascending order."
            )


def _is_usable(name: str) -> bool:
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return False
    return 0 < len(encoded) <= MAX_NAME_BYTES and b"\0" not in encoded


def _write_content(
    file: h5py.File,
    splits: Mapping[str, SplitContent],
    shape: tuple[int, int, int],
    progress: Progress | None,
) -> tuple[dict[str, NDArray[np.int64]], str]:
    """Write all that the content checksum covers; return each split's class offsets, and the checksum."""
    statistics = ChannelStatistics(shape[-1])
    offsets: dict[str, NDArray[np.int64]] = {}
    lines: list[str] = []
    for name in SPLITS:
        group = file.create_group(name)
        add = statistics.add if name == "train" else None
        counts = _write_images(group, splits[name], shape, add, progress or no_progress)
        offsets[name] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        group["class_offsets"] = offsets[name]
        group.create_dataset("class_names", data=splits[name].class_names, dtype=h5py.string_dtype())
        lines += [
            content_line(f"{name}/images", "uint8", group["images"].shape, str(group.attrs["images_sha256"])),
            array_line(f"{name}/class_offsets", offsets[name]),
            names_line(f"{name}/class_names", splits[name].class_names),
            *_write_episodes(file, name, offsets[name]),
        ]
    file.attrs["mean"], file.attrs["std"] = statistics.result()
    return offsets, content_sha256(lines)


def _write_images(
    group: Any,
    content: SplitContent,
    shape: tuple[int, int, int],
    add: Callable[[Images], None] | None,
    progress: Progress,
) -> NDArray[np.int64]:
    """Stream the images of a split into `images`; return the number of each class."""
    rows = max(_CHUNK_BYTES // int(np.prod(shape)), 1)
    images = group.create_dataset(
        "images", (content.images, *shape), np.uint8, maxshape=(None, *shape), chunks=(rows, *shape)
    )
    split = group.name.strip("/")
    digest = hashlib.sha256()
    counts = np.zeros(len(content.class_names), np.int64)
    done, last = 0, 0
    for label, block in _received(content.blocks):
        if label < last or block.shape[1:] != shape or block.dtype != np.uint8:
            raise ValueError(
                f"{split}: block {block.dtype} {block.shape} of class {label} after class {last}"
            )
        end = done + len(block)
        if end > len(images):
            images.resize(end, axis=0)
        images[done:end] = block
        digest.update(np.ascontiguousarray(block).data)
        if add:
            add(block)
        counts[label] += len(block)
        done, last = end, label
        _asked(progress, split, done, max(content.images, done))
    if not counts.all():
        empty = content.class_names[int(np.argmin(counts))]
        raise DataError(
            f"The class {shortened(empty)!r} of {split} has no images; leave it out or give it some."
        )
    images.resize(done, axis=0)
    group.attrs["images_sha256"] = digest.hexdigest()
    group.file.flush()  # a failure to write is raised here, and is lost where `images` is let go
    return counts


def _write_episodes(file: h5py.File, split: str, offsets: NDArray[np.int64]) -> list[str]:
    """Draw and write the frozen tasks of a split; return their lines of the content checksum."""
    group = file.create_group(f"episodes/{split}")
    lines = []
    for way, shot in settings():
        tasks = draw_episodes(split, offsets, way, shot)
        if tasks is not None:
            group[episodes_key(way, shot)] = tasks
            lines.append(array_line(f"episodes/{split}/{episodes_key(way, shot)}", tasks))
    return lines


def _tool_version() -> str:
    try:
        return version("pamela-cli")
    except PackageNotFoundError:
        return "unknown"

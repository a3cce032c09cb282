"""Decode image files, as many at a time as pays, with bounded memory."""

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from data_prep.archives import Tree
from data_prep.errors import DataError
from data_prep.store.format import Images

Item = TypeVar("Item")
Result = TypeVar("Result")

_BATCH = 64

# Files under this size decode in Python code for the most part, which holds the interpreter's lock: a second
# thread made 32 × 32 PNGs slower (2.3 s for 20,000 against 1.5 s on 2 cores), but larger images nearly twice
# as fast.
_WORTH_THREADS = 6 << 10


@dataclass(frozen=True)
class Decoding:
    """How the files of one dataset become arrays.

    `size` and `channels` of the result; `formats`, those of Pillow that may be tried; `native`, the side that
    every image must have in the source; `invert`, for dark ink on white.
    """

    size: int
    channels: int
    formats: tuple[str, ...]
    native: int
    invert: bool = False


def decode(data: bytes, where: str, how: Decoding) -> Images:
    """Decode one image file: uint8 (size, size, channels), antialiased where it is resized.

    DataError names `where` for a file that is broken, of another format or size, or absurdly large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=how.formats) as image:
            # Before any pixel is decoded: a header may promise more of them than there is memory.
            if image.size != (how.native, how.native):
                raise DataError(
                    f"{where} has {image.width} × {image.height} pixels, not {how.native} × {how.native}: "
                    "it is not of this dataset; get it again."
                )
            pixels = image.convert("L" if how.channels == 1 else "RGB")
            if how.size != how.native:
                pixels = pixels.resize((how.size, how.size), Image.Resampling.LANCZOS)
            array = np.asarray(pixels, np.uint8).reshape(how.size, how.size, how.channels)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        reason = str(error) if "BytesIO" not in str(error) else f"no {' or '.join(how.formats)} image"
        raise DataError(f"{where} is broken ({reason}); get it again.") from error
    return 255 - array if how.invert else array


def decode_files(
    tree: Tree, groups: Iterable[Sequence[str]], how: Decoding, workers: int | None
) -> Iterator[tuple[int, Images]]:
    """Decode groups of files: yields (index of the group, uint8 (n, size, size, channels)) in order."""

    def read_batches() -> Iterator[tuple[int, list[tuple[str, bytes]]]]:
        for index, names in enumerate(groups):
            for first in range(0, len(names), _BATCH):
                yield index, [(name, tree.read(name)) for name in names[first : first + _BATCH]]

    def decode_batch(batch: tuple[int, list[tuple[str, bytes]]]) -> tuple[int, Images]:
        index, files = batch
        return index, np.stack([decode(data, f"{tree.path}: {name}", how) for name, data in files])

    batches = read_batches()
    first = next(batches, None)
    if first is None:
        return
    small = sum(len(data) for _, data in first[1]) < _WORTH_THREADS * len(first[1])
    yield decode_batch(first)
    yield from _map(decode_batch, batches, 1 if small else workers or os.cpu_count() or 1)


def _map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Map in threads, in order, with a bounded number of items in memory."""
    if workers == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

"""Decode image files, as many at a time as pays off, with bounded memory."""

import io
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_prep.archives import where
from data_prep.errors import Damaged, DataError, is_of_content
from data_prep.fitting import TOO_LARGE, Fit, Unsuited, fit_image
from data_prep.machine import available_cores
from data_prep.metadata import check_metadata
from data_prep.store.format import Images

Item = TypeVar("Item")
Result = TypeVar("Result")

OnBroken = Callable[[str, DataError], None]
"""Called with the name of a file that cannot be used, and why; from several threads."""

# Some dozens of batches wait for the writer at a time: their size bounds the memory.
_BATCH, _BATCH_BYTES = 64, 8 << 20

# Files under this size decode in Python code for the most part, which holds the interpreter's lock: a second
# thread made 32 × 32 PNGs slower (2.3 s for 20,000 against 1.5 s on 2 cores), but larger images nearly twice
# as fast.
_WORTH_THREADS = 6 << 10


@dataclass(frozen=True)
class Decoding:
    """How the files of one dataset become arrays.

    `size` and `channels` of the result; `formats`, those of Pillow that may be tried; `native`, the side that
    every image must have in the source, None for photographs of any size, which are made square by `fit`;
    `invert`, for dark ink on white.
    """

    size: int
    channels: int
    formats: tuple[str, ...]
    native: int | None
    invert: bool = False
    fit: Fit = "crop"


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Let Pillow refuse images that it would warn about as bombs, and keep its other warnings off the screen.

    It also warns about damaged metadata that it skipped. Filters belong to the process: all threads obey
    them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode(data: bytes, where: str, how: Decoding) -> Images:
    """Decode one image file: uint8 (size, size, channels), antialiased where it is resized.

    `Damaged` names `where` for a file that is broken, of another format or size, or too large.
    """
    try:
        check_metadata(data)
        with Image.open(io.BytesIO(data), formats=how.formats) as image:
            # Before any pixel is decoded: a header may promise more of them than there is memory.
            if how.native is not None and image.size != (how.native, how.native):
                raise Damaged(
                    f"{where} has {image.width} × {image.height} pixels, not {how.native} × {how.native}: "
                    "it does not belong to this dataset; get a fresh copy."
                )
            if how.native is None:
                pixels = fit_image(image, how.size, how.channels, how.fit)
            else:
                pixels = image.convert("L" if how.channels == 1 else "RGB")
                if how.size != how.native:
                    pixels = pixels.resize((how.size, how.size), Image.Resampling.LANCZOS)
            array = np.asarray(pixels, np.uint8).reshape(how.size, how.size, how.channels)
    except DataError:
        raise
    except MemoryError as error:  # not the image's fault: no more of it is decoded than allowed
        raise DataError(
            f"{where} cannot be decoded: there is not enough memory; free some, or use fewer --workers."
        ) from error
    except Unsuited as error:
        raise Damaged(f"{where} cannot be used, as it has {error}.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:  # before ours
        raise Damaged(f"{where} cannot be used, as it has {TOO_LARGE}.") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise Damaged(f"{where} is broken ({_reason(error, how)}); get a fresh copy.") from error
    return 255 - array if how.invert else array


def _reason(error: Exception, how: Decoding) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not a {' or '.join(how.formats)} image"
    return " ".join(str(error).split()) or type(error).__name__


class Readable(Protocol):
    """Files by name: a tree, or what holds encoded images in another way."""

    path: Path

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""


def decode_files(
    tree: Readable,
    groups: Iterable[Sequence[str]],
    how: Decoding,
    workers: int | None,
    on_broken: OnBroken | None = None,
) -> Iterator[tuple[int, Images]]:
    """Decode groups of files: yields (index of the group, uint8 (n, size, size, channels)) in order.

    The first file that cannot be used raises DataError, or, with `on_broken`, is reported and left out.
    """

    over = Event()  # the result is no longer wanted

    def usable(name: str, function: Callable[[], Result]) -> Result | None:
        try:
            return function()
        except DataError as error:
            if on_broken is None or not is_of_content(error):  # of the machine: the image may be sound
                raise
            on_broken(name, error)
            return None

    def read(name: str) -> bytes | None:
        return usable(name, lambda: tree.read(name))

    def decode_batch(batch: _Batch) -> tuple[int, Images]:
        decoded = [
            usable(name, partial(decode, data, where(tree.path, name), how))
            for name, data in batch.files
            if not over.is_set()
        ]
        images = [image for image in decoded if image is not None]
        shape = (len(images), how.size, how.size, how.channels)
        return batch.group, np.stack(images) if images else np.empty(shape, np.uint8)

    batches = _batches(groups, read)
    first = next(batches, None)
    if first is None:
        return
    # The first files of a dataset are typical of the rest, but those of a folder of arbitrary images are not.
    small = how.native is not None and first.bytes < _WORTH_THREADS * len(first.files)
    yield decode_batch(first)
    yield from _map(decode_batch, batches, 1 if small else workers or available_cores(), over)


@dataclass
class _Batch:
    """Files of one group, by name."""

    group: int
    files: list[tuple[str, bytes]] = field(default_factory=list)
    bytes: int = 0


def _batches(groups: Iterable[Sequence[str]], read: Callable[[str], bytes | None]) -> Iterator[_Batch]:
    """Read groups of files in batches of limited size; None is left out."""
    for group, names in enumerate(groups):
        batch = _Batch(group)
        for name in names:
            data = read(name)
            if data is None:
                continue
            batch.files.append((name, data))
            batch.bytes += len(data)
            if len(batch.files) == _BATCH or batch.bytes >= _BATCH_BYTES:
                yield batch
                batch = _Batch(group)
        if batch.files:
            yield batch


def _map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, over: Event
) -> Iterator[Result]:
    """Map in threads, in order, with a bounded number of items in memory; sets `over` at the end."""
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
        over.set()
        pool.shutdown(cancel_futures=True)

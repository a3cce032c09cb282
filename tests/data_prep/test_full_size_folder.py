"""A folder of 10,000 photographs, against plain Pillow: `pytest -m slow -s` on this file prints the times."""

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from data_prep_support import write_folder
from PIL import Image

from data_prep import prepare
from data_prep.machine import available_cores
from data_prep.store.format import Images


def photographs(count: int) -> list[bytes]:
    """Return JPEG files of 500 × 375 pixels with coarse and fine structure, some 50 KB each."""
    rng = np.random.default_rng(0)

    def structure(width: int, height: int) -> Image.Image:
        noise = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        return noise.resize((500, 375), Image.Resampling.BICUBIC)

    files = []
    for _ in range(count):
        buffer = io.BytesIO()
        Image.blend(structure(32, 24), structure(250, 188), 0.25).save(buffer, "JPEG", quality=85)
        files.append(buffer.getvalue())
    return files


def plain(path: Path) -> Images:
    with Image.open(path) as image:
        square = image.convert("RGB").resize((84, 84), Image.Resampling.LANCZOS, box=(62.5, 0, 437.5, 375))
    return np.asarray(square)


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@pytest.mark.slow
def test_a_folder_of_photographs_is_as_fast_as_plain_pillow(tmp_path: Path) -> None:
    files = photographs(40)
    names = [f"class{number % 50:02}/{number}.jpg" for number in range(10_000)]
    source = write_folder(tmp_path / "own", {name: files[i % 40] for i, name in enumerate(names)})

    def with_pillow() -> None:
        with ThreadPoolExecutor(available_cores()) as pool:
            assert sum(1 for _ in pool.map(plain, sorted(source.rglob("*.jpg")))) == 10_000

    by_pillow = min(timed(with_pillow) for _ in range(2))
    by_prepare = min(
        timed(lambda: prepare("folder", source, tmp_path / "o.h5", force=True)) for _ in range(2)
    )
    print(f"\nplain Pillow {by_pillow:.1f} s, prepare {by_prepare:.1f} s on {available_cores()} cores")
    assert by_prepare <= by_pillow / 0.9

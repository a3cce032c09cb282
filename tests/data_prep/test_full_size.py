"""Datasets of full size: time and memory. `pytest -m slow tests/data_prep/test_full_size.py -s` says them."""

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from forms_support import dump, encoded

from data_prep import verify_store
from data_prep.sources import tiered_imagenet
from data_prep.sources.base import read_split_lists

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]

# Prepares in a process of its own, whose peak of memory is then that of preparing.
PREPARE = """
import json, re, sys, time
from pathlib import Path
from data_prep import prepare
from data_prep.sources import tiered_imagenet

dataset, source, out, counts = sys.argv[1:]
tiered_imagenet.COUNTS = {split: tuple(own) for split, own in json.loads(counts).items()}
start = time.perf_counter()
prepare(dataset, Path(source), Path(out))
seconds = time.perf_counter() - start
# Not getrusage: its peak is at least that of the process that has started this one.
peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())
print(seconds, int(peak.group(1)) * 1024)
"""


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that is removed at once: pytest would keep its gigabytes for a while."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def measure(dataset: str, source: Path, out: Path, counts: dict[str, tuple[int, int]]) -> tuple[float, float]:
    """Return seconds and peak memory in bytes."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    arguments = [dataset, str(source), str(out), json.dumps(counts)]
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, *arguments], env=environment, check=True, stdout=subprocess.PIPE
    )
    seconds, peak = map(float, done.stdout.split())
    print(f"\n{dataset}: {seconds:.0f} s, {peak / 1e9:.2f} GB at most")
    return seconds, peak


@pytest.mark.parametrize("protocol", [4, 2])
def test_miniimagenet_pickles(work: Path, protocol: int) -> None:
    """60,000 images in at most 60 s on 2 cores and 2.5 GB; in protocol 2 Python 3 writes bytes as texts."""
    rng = np.random.default_rng(0)
    lists = read_split_lists("mini_imagenet")
    for split, names in lists.items():
        images = rng.integers(0, 256, (600 * len(names), 84, 84, 3), np.uint8)
        class_dict = {name: list(range(600 * n, 600 * n + 600)) for n, name in enumerate(names)}
        path = work / "x" / f"mini-imagenet-cache-{split}.pkl"
        dump(path, {"image_data": images, "class_dict": class_dict}, protocol)
        del images
    seconds, peak = measure("miniimagenet", work / "x", work / "s.h5", tiered_imagenet.COUNTS)
    assert seconds < 60 and peak < 2.5e9
    found = {split: own["images"] for split, own in verify_store(work / "s.h5").splits.items()}
    assert found == {"train": 38_400, "val": 9_600, "test": 12_000}


def test_tieredimagenet_png_pickles(work: Path) -> None:
    """A train part of 448,695 images, 12 KB each, within 6 GB; the others of one image a class."""
    counts = {"train": tiered_imagenet.COUNTS["train"], "val": (97, 97), "test": (160, 160)}
    files = photographs(200)
    assert np.mean([len(file) for file in files]) > 12_000
    for split, (classes, images) in counts.items():
        labels = np.arange(images, dtype=np.int32) * classes // images
        names = [f"{split} {n}" for n in range(classes)]
        dump(work / "x" / f"{split}_labels.pkl", {"label_specific": labels, "label_specific_str": names})
        with (work / "x" / f"{split}_images_png.pkl").open("wb") as file:
            write_list(file, files, images)
    _, peak = measure("tieredimagenet", work / "x", work / "s.h5", counts)
    assert peak < 6e9
    assert verify_store(work / "s.h5").splits["train"]["images"] == 448_695


def photographs(count: int) -> list[bytes]:
    """Return PNG files of 84 × 84 pixels that are about as hard to compress as photographs."""
    rng = np.random.default_rng(0)
    result = []
    for _ in range(count):
        smooth = rng.normal(128, 60, (7, 7, 3)).repeat(12, 0).repeat(12, 1)
        noisy = smooth + rng.normal(0, 6, (84, 84, 3))
        result.append(encoded(noisy.clip(0, 255).astype(np.uint8)))
    return result


def write_list(file: IO[bytes], files: list[bytes], count: int) -> None:
    """Pickle a list of arrays as NumPy does in protocol 3, without having them all in memory."""
    # What the arrays share comes first, is remembered in places 1 to 4, and is popped again.
    shared = b"cnumpy.core.multiarray\n_reconstruct\nq\x010cnumpy\nndarray\nq\x020C\x01bq\x030"
    kind = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1K\x00K\x01\x87R(K\x03X\x01\x00\x00\x00|NNNJ" + b"\xff" * 4
    file.write(b"\x80\x03]q\x00" + shared + kind + b"J" + b"\xff" * 4 + b"K\x00tbq\x040(")
    place = 5
    for number in range(count):
        data = files[number % len(files)]
        puts = [b"r" + struct.pack("<I", place + step) for step in range(5)]
        place += len(puts)
        file.write(b"h\x01h\x02K\x00\x85" + puts[0] + b"h\x03\x87" + puts[1] + b"R" + puts[2])
        file.write(b"(K\x01J" + struct.pack("<i", len(data)) + b"\x85" + puts[3] + b"h\x04\x89B")
        file.write(struct.pack("<I", len(data)) + data + puts[4] + b"tb")
    file.write(b"e.")


def test_the_list_is_as_numpy_writes_it(tmp_path: Path) -> None:
    with (tmp_path / "list.pkl").open("wb") as file:
        write_list(file, [b"one", b"other"], 3)
    found = pickle.loads((tmp_path / "list.pkl").read_bytes())
    assert [array.tobytes() for array in found] == [b"one", b"other", b"one"]
    assert all(array.dtype == np.uint8 for array in found)

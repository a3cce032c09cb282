"""Images and names that would take long to decode or draw."""

import errno
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from data_prep_support import content, origin, random_images, write_folder
from peak_memory import MIB, growth_below
from PIL import Image

from data_prep import DataError, prepare
from data_prep.contact_sheet import write_contact_sheet
from data_prep.fitting import FORMATS
from data_prep.images import Decoding, decode
from data_prep.store import SPLITS, SplitContent, write_store


def tiff(side: int, tile: int, packed: bytes) -> bytes:
    """Return a gray TIFF of one tile, which is compressed with Deflate."""
    tags = {
        256: side,
        257: side,
        258: 8,
        259: 8,
        262: 1,
        277: 1,
        322: tile,
        323: tile,
        324: 0,
        325: len(packed),
    }
    tags[324] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + packed


HOW = Decoding(84, 3, FORMATS, None)


def test_a_tile_far_larger_than_the_image_is_not_decoded() -> None:
    packer = zlib.compressobj()
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    said = "its tiles of 104,857,600 pixels are larger than the image"
    with growth_below(50 * MIB), pytest.raises(DataError, match=said):
        decode(tiff(16, 10_240, packed), "a.tif", HOW)


@pytest.mark.parametrize(("side", "tile"), [(16, 256), (300, 512), (100, 1024), (1100, 1280)])
def test_usual_tiles_are_decoded(side: int, tile: int) -> None:
    data = tiff(side, tile, zlib.compress(bytes([200]) * tile * tile))
    assert (decode(data, "a.tif", HOW) == 200).all()


@pytest.mark.timeout(20)
def test_long_names_of_classes_are_drawn_at_once(tmp_path: Path) -> None:
    classes = random_images([20, 20])
    names = ["n" * 4_000, "o " * 2_000]
    splits = {name: SplitContent(names, content(classes).blocks, 40) for name in SPLITS}
    write_contact_sheet(write_store(tmp_path / "s.h5", origin(), splits, image_size=8, channels=1).store)


def test_a_sheet_that_does_not_fit_on_the_disk_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    images = {
        f"c{label}/{n}.pgm": b"P5 1 1 255\n%c" % (9 * label + n) for label in range(3) for n in range(2)
    }
    monkeypatch.setattr(Image.Image, "save", full)
    made = prepare("folder", write_folder(tmp_path / "own", images), tmp_path / "s.h5")
    assert made.contact_sheet is None and made.store.exists()
    assert any("s.png could not be written (No space left" in note for note in made.notes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "s.h5"]

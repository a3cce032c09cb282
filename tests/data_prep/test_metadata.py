"""Metadata that would cost more than the picture is refused, and that of cameras and scanners is not."""

import io
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.errors import Damaged
from data_prep.fitting import FORMATS
from data_prep.images import Decoding, decode, strict_pillow
from data_prep.metadata import check_metadata

HOW = Decoding(84, 3, FORMATS, native=None)
RESOLUTION, STRIPS = 282, 273


def tiff(fractions: int, order: str = "<", tag: int = RESOLUTION, kind: int = 5) -> bytes:
    """Return a picture of one grey pixel with many values in one tag."""
    tags = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    behind = 8 + 2 + 12 * 9 + 4
    tags += [(273, 4, 1, behind), (278, 3, 1, 1), (279, 4, 1, 1), (tag, kind, fractions, behind + 1)]
    mark = b"II*\0" if order == "<" else b"MM\0*"
    data = mark + struct.pack(order + "IH", 8, len(tags))
    for number, type_, count, value in tags:
        short = type_ == 3 and order == ">"  # values lie on the left of their four bytes
        data += struct.pack(order + "HHII", number, type_, count, value << 16 if short else value)
    return data + bytes(4) + b"\7" + struct.pack(order + "II", 72, 1) * fractions


def jpeg(segments: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 7).save(buffer, "JPEG")
    body = b"Exif\0\0" + bytes(1000)
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    return buffer.getvalue()[:2] + segment * segments + buffer.getvalue()[2:]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_fractions_without_end_are_refused_at_once(order: str) -> None:
    assert (decode(tiff(1, order), "x.tif", HOW) == 7).all()
    assert (decode(tiff(1_000, order), "x.tif", HOW) == 7).all()
    before = time.process_time()
    with pytest.raises(Damaged, match=r"x\.tif is broken \(its tags have 1,000,008 numbers"):
        decode(tiff(1_000_000, order), "x.tif", HOW)
    assert time.process_time() < before + 2  # Pillow takes 5 to 13 s


def test_other_numbers_may_be_more_and_bytes_any() -> None:
    check_metadata(tiff(400_000, tag=40_000, kind=4))
    check_metadata(tiff(3_000_000, tag=40_000, kind=7))
    with pytest.raises(ValueError, match="numbers"):
        check_metadata(tiff(600_000, tag=40_000, kind=4))


def test_exif_in_many_segments_is_refused() -> None:
    with strict_pillow():
        assert (decode(jpeg(16), "x.jpg", HOW) == 7).all()
    with pytest.raises(Damaged, match="EXIF"):
        decode(jpeg(17), "x.jpg", HOW)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_what_pillow_writes_passes(mode: str, big: bool) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (300, 4000)).save(buffer, "TIFF", big_tiff=big, dpi=(300, 300))
    check_metadata(buffer.getvalue())
    assert decode(buffer.getvalue(), "x.tif", HOW).shape == (84, 84, 3)


@pytest.mark.parametrize("size", range(0, 200, 7))
def test_what_is_cut_short_is_left_to_pillow(size: int) -> None:
    check_metadata(tiff(2)[:size])


def test_orientation_in_long_exif_data_is_passed_over(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    found = []
    for note in (10, 2 << 20):
        exif = Image.Exif()
        exif[0x0112] = 3
        exif[0x010E] = "x" * note
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", exif=exif)
        found.append(decode(buffer.getvalue(), "x.png", Decoding(8, 1, FORMATS, native=None)))
    assert (found[0] == found[1][::-1, ::-1]).all() and (found[0] != found[1]).any()

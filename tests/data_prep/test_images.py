"""Image files to arrays."""

import io

import numpy as np
import pytest
from data_prep_support import huge_png, png
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep import DataError
from data_prep.images import Decoding, decode

COLOUR = Decoding(size=32, channels=3, formats=("PNG",), native=32)
INK = Decoding(size=28, channels=1, formats=("PNG",), native=105, invert=True)


def test_pixels_are_kept() -> None:
    data = png(32)
    np.testing.assert_array_equal(decode(data, "x", COLOUR), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_other_modes_become_colour(mode: str) -> None:
    assert decode(png(32, mode), "x", COLOUR).shape == (32, 32, 3)


def test_ink_is_bright_and_antialiased() -> None:
    page = Image.new("1", (105, 105), 1)
    page.paste(0, (40, 20, 47, 85))
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    image = decode(buffer.getvalue(), "x", INK)
    assert image.shape == (28, 28, 1)
    assert image[0, 0, 0] == 0 and image.max() == 255
    assert 0 < np.count_nonzero((image > 20) & (image < 235)) < 100


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not a PNG image"),
        (b"GIF89a", "not a PNG image"),
        (png(32)[:200], "broken"),
        (png(31), "31 × 31 pixels, not 32 × 32"),
        (huge_png(10_000), "10,000 × 10,000 pixels, not 32 × 32|more than 64 million pixels"),
        (huge_png(50_000), "more than 64 million pixels: scale it down"),
    ],
)
def test_bad_files_are_named(data: bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as error:
        decode(data, "folder: cat/7.png", COLOUR)
    assert "folder: cat/7.png" in str(error.value)


@settings(max_examples=100)
@given(at=st.integers(0, 3000), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_images_never_surprise(at: int, value: int, cut: bool) -> None:
    data = bytearray(png(32))
    at %= len(data)
    if cut:
        del data[at:]
    else:
        data[at] = value
    try:
        assert decode(bytes(data), "x", COLOUR).shape == (32, 32, 3)
    except DataError as error:
        assert "\n" not in str(error)


def test_an_image_of_the_right_width_alone_is_named() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 40)).save(buffer, "PNG")
    with pytest.raises(DataError, match="32 × 40 pixels, not 32 × 32"):
        decode(buffer.getvalue(), "folder: cat/7.png", COLOUR)

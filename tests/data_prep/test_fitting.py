"""Photographs of any kind to small squares."""

import io
import time

import numpy as np
import pytest
from data_prep_support import huge_png
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep import DataError
from data_prep.fitting import FITS, FORMATS, Fit, fit_image
from data_prep.images import Decoding, decode, strict_pillow
from data_prep.store.format import Images

SIZE = 24


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes, channels: int = 3, fit: Fit = "crop", size: int = SIZE) -> Images:
    with strict_pillow():
        return decode(data, "here", Decoding(size, channels, FORMATS, None, fit=fit))


def scene(width: int = 90, height: int = 60) -> Image.Image:
    """Return a smooth picture without symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    red = 40 + 180 * x / width
    green = 220 - 160 * y / height
    blue = 128 + 90 * np.sin(x / width * 5 + y / height * 3)
    return Image.fromarray(np.stack([red, green, blue], axis=2).astype(np.uint8))


def difference(one: Images, other: Images) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).max())


PLAIN = decoded(encoded(scene()))

# Each is the same scene in another dress; the number is how far its colours may be off.
DRESSES: dict[str, tuple[bytes, float]] = {
    "jpeg": (encoded(scene(), "JPEG", quality=95), 12),
    "progressive jpeg": (encoded(scene(), "JPEG", quality=95, progressive=True), 12),
    "cmyk jpeg": (encoded(scene().convert("CMYK"), "JPEG", quality=95), 16),
    "palette": (encoded(scene().convert("P", palette=Image.Palette.ADAPTIVE)), 24),
    "opaque": (encoded(scene().convert("RGBA")), 1),
    "webp": (encoded(scene(), "WEBP", lossless=True), 1),
    "tiff": (encoded(scene(), "TIFF", compression="tiff_lzw"), 0),
    "bmp": (encoded(scene(), "BMP"), 0),
    "ppm": (encoded(scene(), "PPM"), 0),
    "animated": (
        encoded(scene(), "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (90, 60))]),
        1,
    ),
}


@pytest.mark.parametrize("dress", DRESSES)
def test_all_kinds_of_files_show_the_same_scene(dress: str) -> None:
    data, allowed = DRESSES[dress]
    assert difference(decoded(data), PLAIN) <= allowed


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decoded(data) == (255, 0, 0)).all()


def test_transparent_parts_become_white() -> None:
    image = Image.new("RGBA", (60, 60), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 30, 60))
    palette = Image.fromarray((np.asarray(image)[..., 3] > 0).astype(np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 0, 255])
    for data in (encoded(image), encoded(palette, transparency=0), encoded(image, "WEBP", lossless=True)):
        pixels = decoded(data)
        assert difference(pixels[:, :10], np.full((SIZE, 10, 3), (0, 0, 255))) < 8
        assert (pixels[:, -10:] >= 254).all()
    gray = Image.new("LA", (60, 60), (0, 128))
    assert (abs(decoded(encoded(gray)).astype(int) - 127) <= 1).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_range(kind: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 60).astype(np.uint16), (60, 1))
    row = decoded(encoded(Image.fromarray(ramp), kind))[SIZE // 2, :, 0].astype(int)
    assert row[0] < 8 and row[-1] > 247 and (np.diff(row) > 0).all()


def test_one_bit_images_are_antialiased() -> None:
    page = Image.new("1", (240, 240), 1)
    page.paste(0, (0, 0, 117, 240))
    row = decoded(encoded(page), channels=1)[5, :, 0]
    assert row[0] == 0 and row[-1] == 255 and 0 < row[11] < 255


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_rotation_is_undone(orientation: int, fit: Fit) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # the file lies as the camera was held
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = scene().transpose(undo[orientation]) if orientation in undo else scene()
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        pixels = decoded(encoded(stored, kind, exif=exif, quality=95), fit=fit)
        assert difference(pixels, decoded(encoded(scene()), fit=fit)) < 25


def test_damaged_exif_data_does_not_cost_the_picture() -> None:
    data = encoded(scene(), "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")
    assert difference(decoded(data), PLAIN) <= 12


@settings(max_examples=60)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    channels=st.sampled_from([1, 3]),
    fit=st.sampled_from(["crop", "pad"]),
    size=st.integers(8, 100),
)
def test_any_size_becomes_the_square(width: int, height: int, channels: int, fit: Fit, size: int) -> None:
    image = Image.new("RGB", (width, height), (200, 200, 200))
    pixels = decoded(encoded(image), channels, fit, size)
    assert pixels.shape == (size, size, channels)
    shorter, longer = sorted((width, height))
    filled = size if fit == "crop" else max(1, round(size * shorter / longer))
    assert (pixels == 200).sum() == filled * size * channels
    assert ((pixels == 200) | (pixels == 0)).all()


def test_crop_takes_the_centre_and_pad_shows_all() -> None:
    image = Image.new("RGB", (120, 40), "red")
    image.paste("lime", (40, 0, 80, 40))
    assert difference(decoded(encoded(image))[:, 2:-2], np.full((SIZE, SIZE - 4, 3), (0, 255, 0))) < 2
    padded = decoded(encoded(image), fit="pad")
    assert (padded[:8] == 0).all() and (padded[-8:] == 0).all()
    assert (padded[12, 1] == (255, 0, 0)).all() and (padded[12, 12] == (0, 255, 0)).all()


def test_the_short_cut_for_large_jpegs_is_not_seen() -> None:
    """Decoding at a part of the size gives what the filter gives on the whole image."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8))
    data = encoded(coarse.resize((1500, 1000), Image.Resampling.BICUBIC), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        whole = image.convert("RGB").resize((84, 84), Image.Resampling.LANCZOS, box=(250, 0, 1250, 1000))
    gap = np.abs(decoded(data, size=84).astype(int) - np.asarray(whole, np.int64))
    assert gap.mean() < 1.5 and np.percentile(gap, 99) < 6


def test_pixels_without_a_known_range_are_refused() -> None:
    with pytest.raises(DataError, match="floating-point"):
        decoded(encoded(Image.fromarray(np.zeros((20, 20), np.float32)), "TIFF"))


def test_an_image_that_promises_too_many_pixels_is_refused_at_once() -> None:
    start = time.monotonic()
    why = r"cannot be used, as it has 9,000 × 9,000 pixels, more than 64 million pixels: scale it down\.$"
    with pytest.raises(DataError, match=why):
        decoded(huge_png(9_000))
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_beyond_pillows_own_limits_it_says_the_same(side: int) -> None:
    with (
        strict_pillow(),
        pytest.raises(DataError, match=r"has more than 64 million pixels: scale it down\.$"),
    ):
        decoded(huge_png(side))


@settings(max_examples=100)
@given(data=st.data(), dress=st.sampled_from(sorted(DRESSES)))
def test_damaged_photographs_never_surprise(data: st.DataObject, dress: str) -> None:
    damaged = bytearray(DRESSES[dress][0])
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    else:
        at = data.draw(st.one_of(st.integers(0, 200), st.integers(0, len(damaged) - 1)))
        damaged[at % len(damaged)] = data.draw(st.integers(0, 255))
    try:
        assert decoded(bytes(damaged)).shape == (SIZE, SIZE, 3)
    except DataError as error:
        assert "\n" not in str(error)


def test_the_turn_of_a_huge_image_is_given_back() -> None:
    for _ in range(2):  # a lock that was kept would hang the second
        image = Image.new("1", (5000, 4000))
        assert fit_image(image, SIZE, 1, "crop").size == (SIZE, SIZE)

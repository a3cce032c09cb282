"""Turn any photograph into a small square, handling orientation, transparency, 16 bits, size and memory."""

import math
import threading
from contextlib import nullcontext
from math import prod
from typing import Literal, get_args

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

Fit = Literal["crop", "pad", "stretch"]
FITS: tuple[str, ...] = get_args(Fit)

# Whatever cameras, scanners and the web make. EPS and PDF are not among them: those are programs.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif"}
)

# A file of some kilobytes may promise more pixels than there is memory. The largest common cameras have 50
# million, which take some 400 MB while they are converted; those above the second limit take turns.
MAX_PIXELS = 64_000_000
_LARGE = 16_000_000
_turn = threading.Lock()

_TILE_SIDES = (322, 323)  # the tags of a TIFF
_SMALL_TILE = 1 << 20

# A JPEG is decoded at half, a quarter or an eighth of its size, but never under twice the size that is asked
# for, and other images are averaged in blocks down to three times: the rest is left to the filter, and the
# result looks the same as that of the filter alone.
_DRAFT_GAP, _REDUCING_GAP = 2, 3.0

MOST_EXIF_BYTES = 1 << 20  # a thumbnail and maker's notes included, cameras write 64 KiB
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unsuited(ValueError):
    """An image that is sound, but cannot be used as it is: what is wrong, and what to do."""


TOO_LARGE = f"more than {MAX_PIXELS // 10**6} million pixels: scale it down"


def fit_image(image: Image.Image, size: int, channels: int, fit: Fit) -> Image.Image:
    """Turn an image that was opened, but not decoded, into one of size × size pixels, "L" or "RGB".

    Of an animation the first frame is taken. "crop" fills the square and cuts off the ends of the longer
    side, "pad" shows all and fills up with black, "stretch" squeezes the longer side; transparent parts
    become white. `Unsuited` for more than 64 million pixels, and for floating-point pixels, whose range
    nobody can know. Whatever Pillow raises on damaged files is let through.
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Unsuited(f"{width:,} × {height:,} pixels, {TOO_LARGE}")
    tile = _tile_pixels(image)
    if tile > max(_SMALL_TILE, min(4 * width * height, MAX_PIXELS)):
        raise ValueError(f"its tiles of {tile:,} pixels are larger than the image")
    with _turn if max(width * height, tile) > _LARGE else nullcontext():
        scale = size / (max(width, height) if fit == "pad" else min(width, height))
        wanted = (math.ceil(_DRAFT_GAP * scale * width), math.ceil(_DRAFT_GAP * scale * height))
        image.draft("L" if channels == 1 else None, wanted)
        plain = _plain(image)
        turn = _TURNS.get(_orientation(image))  # once decoded: Pillow turns some formats then by itself
        small = _resized(plain, size, fit)
    if turn is not None:
        small = small.transpose(turn)
    return _finished(small, size, "L" if channels == 1 else "RGB")


def _tile_pixels(image: Image.Image) -> int:
    """Return the size of the tiles of a TIFF, which are decoded whole; 0 where there are none."""
    if not isinstance(image, TiffImageFile):
        return 0
    return prod(int(image.tag_v2.get(tag, 0)) for tag in _TILE_SIDES)


def _orientation(image: Image.Image) -> int:
    if len(image.info.get("exif", b"")) > MOST_EXIF_BYTES:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data is no reason to lose the picture
        return 1


def _plain(image: Image.Image) -> Image.Image:
    """Decode to a mode that can be resized: L, RGB or RGBA."""
    if image.mode == "F":
        raise Unsuited("floating-point pixels, whose range is unknown: save it with whole numbers")
    if image.mode.startswith("I"):  # Pillow would cut values over 255 off
        return Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _resized(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    """Resize the central square to the size, or all of the image to fit into it."""
    width, height = image.size
    target, box = (size, size), (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    elif fit == "pad":
        longer = max(width, height)
        target = (max(1, round(size * width / longer)), max(1, round(size * height / longer)))
    return image.resize(target, Image.Resampling.LANCZOS, box=box, reducing_gap=_REDUCING_GAP)


def _finished(image: Image.Image, size: int, mode: str) -> Image.Image:
    """Lay an image on white where it is transparent, and on black where it does not fill the square."""
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert(mode)
    if image.size == (size, size):
        return image
    square = Image.new(mode, (size, size))
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square

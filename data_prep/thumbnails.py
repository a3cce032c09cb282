"""Small pictures of what is in a store, and texts beside them, for sheets that people look at."""

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from data_prep.font_files import font_folder
from data_prep.resizing import picture
from data_prep.store.format import Images

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

MARGIN, GAP = 12, 2
PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (235, 235, 235)

# The mark of PNG files of ours: they may be replaced without asking.
_MADE_BY = "Software"

_SIDES = (48, 96)  # smaller images are enlarged, larger ones reduced
_LETTERS = 200  # that are measured one by one; two lines have fewer


@cache
def sheet_font(size: int) -> Font:
    """Return a font of so many pixels: DejaVu, of most alphabets, or Pillow's own, of Latin alone."""
    folder = font_folder()
    if folder is not None:
        with suppress(OSError):
            return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size)
    return ImageFont.load_default(size)


def marked(what: str) -> PngInfo:
    """Return what to save a sheet with, for :func:`is_marked` to know it again."""
    mark = PngInfo()
    mark.add_text(_MADE_BY, f"pamela {what}")
    return mark


def is_marked(file: Path | BinaryIO, what: str) -> bool:
    """Return whether a file is such a sheet."""
    if isinstance(file, Path) and not file.is_file():  # opening a pipe would wait
        return False
    try:
        with Image.open(file, formats=("PNG",)) as image:
            return bool(image.info.get(_MADE_BY) == f"pamela {what}")
    except Exception:  # whatever it is, it is no sheet
        return False


def shown_side(size: int) -> int:
    """Return the side that images are shown in: a whole multiple if they are small, for pixels to be seen."""
    low, high = _SIDES
    return min(size * -(-low // size), high)


def thumbnail(pixels: Images, side: int) -> Image.Image:
    """Return an image uint8 (H, W, 1 or 3) as it is shown, RGB."""
    image = picture(pixels).convert("RGB")
    if image.size == (side, side):
        return image
    enlarged = side > image.width
    return image.resize((side, side), Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)


def evenly(count: int, most: int) -> list[int]:
    """Return at most `most` indices below `count`, at equal distances."""
    return [int(index) for index in np.linspace(0, count - 1, min(count, most)).round()]


def wrapped(draw: ImageDraw.ImageDraw, text: str, font: Font, width: int) -> list[str]:
    """Break a text into two lines of a width in pixels, and cut off what is more."""
    line = " ".join(text[:_LETTERS].split())
    first = fitting(draw, line, font, width)
    if first == line:
        return [line]
    end = len(first) - 1
    end = max(line.rfind(" ", 1, end), line.rfind("/", 1, end)) + 1 or end
    return [line[:end], fitting(draw, line[end:], font, width)]


def fitting(draw: ImageDraw.ImageDraw, line: str, font: Font, width: int) -> str:
    """Cut a line to a width in pixels."""
    if draw.textlength(line, font) <= width:
        return line
    while line and draw.textlength(line + "…", font) > width:
        line = line[:-1]
    return line + "…"

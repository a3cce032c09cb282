"""A picture of what a store holds: per split a row a class, so that a person sees what was packed."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from data_prep.errors import DataError
from data_prep.store import SPLITS, Split, Store
from data_prep.store.atomic import atomic_path, cannot_write

_CLASSES, _IMAGES = 12, 12  # of a split, and of a class, at most

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_MARGIN, _GAP = 12, 2
_NAMES = 200  # width of the names' column
_LETTERS = 200  # that are measured one by one; two lines have fewer
_HEADING = 34
_SIDES = (48, 96)  # smaller images are enlarged, larger ones reduced
_PAPER, _INK, _FAINT = (255, 255, 255), (20, 20, 20), (235, 235, 235)

# Says of a PNG that it is a contact sheet, which may be replaced without a question.
_MARK = ("Software", "pamela contact sheet")


def write_contact_sheet(store: Path, out: Path | None = None) -> Path:
    """Write the contact sheet of a store, by default beside it as NAME.png; return its path.

    Classes, and images of a class, are chosen at equal distances. DataError where there is another picture
    in that place, or none can be written.
    """
    out = out or store.parent / f"{store.name.removesuffix('.h5')}.png"
    if out.exists() and not _is_sheet(out):
        raise DataError(f"{out} is there and no contact sheet; it is left as it is, and no sheet is made.")
    with Store.open(store) as opened:
        sheet = _draw(opened)
    mark = PngInfo()
    mark.add_text(*_MARK)
    with atomic_path(out) as temporary:
        try:
            sheet.save(temporary, "PNG", pnginfo=mark)
        except OSError as error:
            raise cannot_write(out, error) from error
    return out


def _is_sheet(path: Path) -> bool:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get(_MARK[0]) == _MARK[1]
    except Exception:  # whatever it is, it is no sheet
        return False


def _draw(store: Store) -> Image.Image:
    splits = [store.split(name) for name in SPLITS]
    rows = [_evenly(len(split.class_names), _CLASSES) for split in splits]
    side = _shown_side(store.image_size)
    step = side + _GAP
    width = 2 * _MARGIN + _NAMES + _IMAGES * step
    height = 2 * _MARGIN + len(splits) * _HEADING + sum(map(len, rows)) * step
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN
    for split, classes in zip(splits, rows, strict=True):
        _draw_heading(draw, top, f"{store.dataset}: {_counted(split, len(classes))}", width)
        top += _HEADING
        for label in classes:
            _draw_row(sheet, draw, top, split, label, side)
            top += step
    return sheet


def _draw_heading(draw: ImageDraw.ImageDraw, top: int, text: str, width: int) -> None:
    draw.rectangle((_MARGIN, top + 4, width - _MARGIN, top + _HEADING - 4), fill=_FAINT)
    font = ImageFont.load_default(15)
    draw.text(
        (_MARGIN + 6, top + _HEADING / 2), _fitting(draw, text, font, width - 48), _INK, font, anchor="lm"
    )


def _draw_row(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int, split: Split, label: int, side: int
) -> None:
    """Draw a class: its name and number of images, and some of them."""
    first, end = (int(offset) for offset in split.class_offsets[label : label + 2])
    lines = _wrapped(draw, split.class_names[label], ImageFont.load_default(13), _NAMES - 12)
    text = "\n".join([*lines, f"{end - first:,}"])
    draw.multiline_text((_MARGIN, top + side / 2), text, _INK, ImageFont.load_default(13), anchor="lm")
    for column, index in enumerate(_evenly(end - first, _IMAGES)):
        pixels = np.asarray(split.images[first + index])
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
        if image.size != (side, side):
            enlarged = side > image.width
            image = image.resize(
                (side, side), Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
            )
        sheet.paste(image, (_MARGIN + _NAMES + column * (side + _GAP), top))


def _shown_side(size: int) -> int:
    """Return the side that images are shown in: a whole multiple if they are small, for pixels to be seen."""
    low, high = _SIDES
    return min(size * -(-low // size), high)


def _counted(split: Split, shown: int) -> str:
    classes, images = len(split.class_names), len(split.images)
    some = "" if shown == classes else f", {shown} of them here"
    return f"{split.name}, {classes:,} classes{some}, {images:,} images"


def _evenly(count: int, most: int) -> list[int]:
    """Return at most `most` indices below `count`, at equal distances."""
    return [int(index) for index in np.linspace(0, count - 1, min(count, most)).round()]


def _wrapped(draw: ImageDraw.ImageDraw, text: str, font: _Font, width: int) -> list[str]:
    """Break a text into two lines of a width in pixels, and cut off what is more."""
    line = " ".join(text[:_LETTERS].split())
    first = _fitting(draw, line, font, width)
    if first == line:
        return [line]
    end = len(first) - 1
    end = max(line.rfind(" ", 1, end), line.rfind("/", 1, end)) + 1 or end
    return [line[:end], _fitting(draw, line[end:], font, width)]


def _fitting(draw: ImageDraw.ImageDraw, line: str, font: _Font, width: int) -> str:
    """Cut a line to a width in pixels."""
    if draw.textlength(line, font) <= width:
        return line
    while line and draw.textlength(line + "…", font) > width:
        line = line[:-1]
    return line + "…"

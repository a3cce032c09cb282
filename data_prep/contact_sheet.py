"""A picture of what a store holds: for each split, one row per class, so that people see what was packed."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw

from data_prep.errors import DataError
from data_prep.store import SPLITS, Split, Store
from data_prep.store.atomic import atomic_path, cannot_write
from data_prep.thumbnails import (
    FAINT,
    GAP,
    INK,
    MARGIN,
    PAPER,
    evenly,
    fitting,
    is_marked,
    marked,
    sheet_font,
    shown_side,
    thumbnail,
    wrapped,
)

_CLASSES, _IMAGES = 12, 12  # of a split, and of a class, at most

_NAMES = 200  # width of the names' column
_HEADING = 34

_WHAT = "contact sheet"


def is_contact_sheet(file: Path | BinaryIO) -> bool:
    """Whether :func:`write_contact_sheet` has made a file."""
    return is_marked(file, _WHAT)


def write_contact_sheet(store: Path) -> Path:
    """Write the contact sheet of a store beside it, as NAME.png; return its path.

    Classes, and images of a class, are chosen at equal distances. DataError if there is another picture
    in that place, or none can be written.
    """
    out = store.parent / f"{store.name.removesuffix('.h5')}.png"
    if out.exists() and not is_contact_sheet(out):
        raise DataError(
            f"{out} exists and is not a contact sheet; it is left unchanged, and no sheet is made."
        )
    with Store.open(store) as opened:
        sheet = _draw(opened)
    with atomic_path(out) as temporary:
        try:
            sheet.save(temporary, "PNG", pnginfo=marked(_WHAT))
        except OSError as error:
            raise cannot_write(out, error) from error
    return out


def _draw(store: Store) -> Image.Image:
    splits = [store.split(name) for name in SPLITS]
    rows = [evenly(len(split.class_names), _CLASSES) for split in splits]
    side = shown_side(store.image_size)
    step = side + GAP
    width = 2 * MARGIN + _NAMES + _IMAGES * step
    height = 2 * MARGIN + len(splits) * _HEADING + sum(map(len, rows)) * step
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for split, classes in zip(splits, rows, strict=True):
        _draw_heading(draw, top, f"{store.dataset}: {_counted(split, len(classes))}", width)
        top += _HEADING
        for label in classes:
            _draw_row(sheet, draw, top, split, label, side)
            top += step
    return sheet


def _draw_heading(draw: ImageDraw.ImageDraw, top: int, text: str, width: int) -> None:
    draw.rectangle((MARGIN, top + 4, width - MARGIN, top + _HEADING - 4), fill=FAINT)
    font = sheet_font(14)
    draw.text((MARGIN + 6, top + _HEADING / 2), fitting(draw, text, font, width - 48), INK, font, anchor="lm")


def _draw_row(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int, split: Split, label: int, side: int
) -> None:
    """Draw a class: its name and number of images, and some of them."""
    first, end = (int(offset) for offset in split.class_offsets[label : label + 2])
    lines = wrapped(draw, split.class_names[label], sheet_font(12), _NAMES - 12)
    text = "\n".join([*lines, f"{end - first:,}"])
    draw.multiline_text((MARGIN, top + side / 2), text, INK, sheet_font(12), anchor="lm")
    for column, index in enumerate(evenly(end - first, _IMAGES)):
        image = thumbnail(np.asarray(split.images[first + index]), side)
        sheet.paste(image, (MARGIN + _NAMES + column * (side + GAP), top))


def _counted(split: Split, shown: int) -> str:
    classes, images = len(split.class_names), len(split.images)
    some = "" if shown == classes else f", {shown} of them shown"
    return f"{split.name}, {classes:,} classes{some}, {images:,} images"

"""A sheet of images with the labels that were predicted for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from data_prep.errors import one_line
from data_prep.store.format import Images
from data_prep.thumbnails import (
    FAINT,
    INK,
    MARGIN,
    PAPER,
    fitting,
    is_marked,
    marked,
    sheet_font,
    shown_side,
    thumbnail,
)
from pamela_cli.files import replacing

_COLUMNS = 10
_WHAT = "predictions"
_SPACE = 10
_LINE = 16
_HEADING = 30
_RIGHT, _WRONG = (0, 114, 178), (213, 94, 0)  # blue and vermilion, told apart by the colour-blind


def write_sheet(document: Mapping[str, Any], images: Mapping[int, Images], out: Path) -> None:
    """Draw the images, by their places among the predictions, uint8 (H, W, C), as the network was given them.

    Each with its label and probability. Where the right label is known, it is framed blue, or vermilion with
    that label below. :class:`PamelaError` if the PNG cannot be written.
    """
    side = shown_side(next(iter(images.values())).shape[0])
    cell = max(side, 84) + _SPACE
    lines = 2 if all(document["predictions"][i]["truth"] is None for i in images) else 3
    row = side + lines * _LINE + _SPACE
    columns = min(_COLUMNS, len(images))
    width = max(2 * MARGIN + columns * cell, 420)
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (width, 2 * MARGIN + _HEADING + rows * row), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_heading(draw, document, len(images), width)
    for place, (index, pixels) in enumerate(images.items()):
        left, top = MARGIN + place % columns * cell, MARGIN + _HEADING + place // columns * row
        _draw_image(sheet, draw, (left, top), thumbnail(pixels, side), document["predictions"][index], cell)
    with replacing(out) as temporary:
        sheet.save(temporary, "PNG", pnginfo=marked(_WHAT))


def is_sheet(path: Path) -> bool:
    """Whether :func:`write_sheet` has made a file."""
    return is_marked(path, _WHAT)


def _draw_heading(draw: ImageDraw.ImageDraw, document: Mapping[str, Any], shown: int, width: int) -> None:
    count = len(document["predictions"])
    text = f"{document['run']}: {document['way']} classes, {count:,} images"
    text += "" if shown == count else f", {shown} of them shown"
    if document["accuracy"] is not None:
        text += f"; {100 * document['accuracy']:.1f} % correct"
    text += " (--tta)" if document["tta"] else ""
    font = sheet_font(14)
    draw.rectangle((MARGIN, MARGIN - 4, width - MARGIN, MARGIN + _HEADING - 12), fill=FAINT)
    place = (MARGIN + 6, MARGIN + (_HEADING - 16) / 2)
    draw.text(place, fitting(draw, one_line(text), font, width - 48), INK, font, anchor="lm")


def _draw_image(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    image: Image.Image,
    prediction: Mapping[str, Any],
    cell: int,
) -> None:
    left, top = corner
    sheet.paste(image, corner)
    truth = prediction["truth"]
    right = truth == prediction["label"]
    if truth is not None:
        frame = (left - 3, top - 3, left + image.width + 2, top + image.height + 2)
        draw.rectangle(frame, outline=_RIGHT if right else _WRONG, width=3)
    texts = [(prediction["label"], INK), (f"{100 * prediction['probability']:.0f} %", INK)]
    if truth is not None and not right:
        texts.append((f"true: {truth}", _WRONG))
    font = sheet_font(11)
    for i, (text, colour) in enumerate(texts):
        place = (left, top + image.height + 4 + i * _LINE)
        draw.text(place, fitting(draw, one_line(text)[:200], font, cell - 6), colour, font)

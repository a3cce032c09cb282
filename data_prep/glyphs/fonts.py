"""The font faces, the letters they have, and their outlines."""

import io
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from fontTools import unicodedata
from fontTools.pens.basePen import BasePen
from fontTools.ttLib import TTFont, TTLibError

from data_prep.archives.base import file_sha256, list_sha256
from data_prep.errors import DataError
from data_prep.font_files import font_folder
from data_prep.glyphs.outlines import Outlines, Points, from_contours

FACES = tuple(
    f"DejaVu{family}"
    for family in (
        *("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique"),
        *("SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique"),
        *("Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic"),
    )
)

# DejaVu's curves are short: four chords each are within a tenth of a pixel of them at 28 pixels.
_CHORDS = 4
_WEIGHTS = [((1 - t) ** 2, 2 * t * (1 - t), t * t) for t in (n / _CHORDS for n in range(1, _CHORDS + 1))]


class Face:
    """One font file, read when it is needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts: dict[str, list[Points]] = {}

    @cached_property
    def _font(self) -> Any:
        try:
            return TTFont(io.BytesIO(self.path.read_bytes()), lazy=True)
        except (OSError, TTLibError) as error:
            raise DataError(
                f"The font {self.path} cannot be read ({error}); reinstall matplotlib."
            ) from error

    @cached_property
    def _glyphs(self) -> Any:
        return self._font.getGlyphSet()

    @cached_property
    def names(self) -> dict[int, str]:
        """Glyph name by code point."""
        return dict(self._font.getBestCmap())

    def outline(self, letter: str) -> Outlines:
        """Return the outline of a letter that the face has, y upwards, in units of the font."""
        pen = _Polygons(self._glyphs, self._part)
        self._glyphs[self.names[ord(letter)]].draw(pen)
        return from_contours(pen.contours)

    def _part(self, name: str) -> list[Points]:
        """The polygons of a glyph as a part of others, made once: many letters have the same parts."""
        if name not in self._parts:
            pen, table = _Polygons(self._glyphs, self._part), self._font["glyf"]
            table[name].draw(pen, table)
            self._parts[name] = pen.contours
        return self._parts[name]


def load_faces() -> list[Face]:
    """Return the faces; DataError if matplotlib is not there or has lost its fonts."""
    folder = font_folder()
    if folder is None:
        raise DataError(
            "The letters of glyphs are drawn from matplotlib's fonts, but matplotlib is missing; install it."
        )
    paths = [folder / f"{name}.ttf" for name in FACES]
    for path in paths:
        if not path.is_file():
            raise DataError(f"The font {path} is missing; reinstall matplotlib.")
    return [Face(path) for path in paths]


def fonts_sha256(faces: list[Face]) -> str:
    """Return the checksum of a list of the font files, in lines as `sha256sum` writes them, by name."""
    return list_sha256({face.path.name: file_sha256(face.path) for face in faces})


def script_and_name(letter: str) -> str:
    """Return the class name of a letter, such as "Greek/GREEK CAPITAL LETTER OMEGA"."""
    return f"{unicodedata.script_name(unicodedata.script(letter))}/{unicodedata.name(letter)}"


class _Polygons(BasePen):  # type: ignore[misc]  # fontTools has no types
    """Collects outlines, curves cut into chords; `part` gives those of a glyph that is a part of this one."""

    def __init__(self, glyphs: Any, part: Callable[[str], list[Points]]) -> None:
        super().__init__(glyphs)
        self._part = part
        self.contours: list[Points] = []
        self._points: list[tuple[float, float]] = []

    def _moveTo(self, point: tuple[float, float]) -> None:
        self._points = [point]

    def _lineTo(self, point: tuple[float, float]) -> None:
        if point != self._points[-1]:
            self._points.append(point)

    def _qCurveToOne(self, control: tuple[float, float], end: tuple[float, float]) -> None:
        (x0, y0), (x1, y1), (x2, y2) = self._points[-1], control, end
        for a, b, c in _WEIGHTS:
            self._lineTo((a * x0 + b * x1 + c * x2, a * y0 + b * y1 + c * y2))

    def addComponent(self, name: str, transformation: tuple[float, ...]) -> None:
        """Take over the polygons of a part that is only moved: exact, as units and chords are dyadic."""
        if tuple(transformation[:4]) == (1, 0, 0, 1):
            self.contours += [contour + transformation[4:] for contour in self._part(name)]
        else:
            super().addComponent(name, transformation)

    def _closePath(self) -> None:
        if self._points[0] == self._points[-1]:
            self._points.pop()
        if len(self._points) > 2:
            self.contours.append(np.array(self._points, np.float64))

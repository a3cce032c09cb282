"""Glyphs, built in: letters of six scripts, each drawn 20 times, in various faces, slightly distorted."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from data_prep.forms import Collection
from data_prep.glyphs.fonts import Face, fonts_sha256, load_faces, script_and_name
from data_prep.glyphs.letters import choose_letters
from data_prep.glyphs.outlines import Outlines, Points, join
from data_prep.glyphs.raster import rasterise
from data_prep.sources.base import DatasetInfo, Source
from data_prep.store.format import Images

IMAGE_SIZE = 28
SAMPLES = 20

_SEED = 20
_FILL = 20 / 28  # of the image's side that a letter's longer side takes before it is scaled
_MARGIN = 0.5 / 28

# Ranges that each sample is drawn from; lengths are shares of the image's side.
_ANGLE = (-math.radians(12), math.radians(12))
_SHEAR = (-0.15, 0.15)
_SCALE = (0.85, 1.1)
_SHIFT = (-2 / 28, 2 / 28)
_STROKE = (-0.15 / 28, 0.3 / 28)  # by which the outline moves outwards


class Glyphs:
    """The letters, drawn on demand; a `Collection`."""

    form = "drawn from matplotlib's DejaVu fonts"
    splits = None
    whose_split = ""

    @cached_property
    def _faces(self) -> list[Face]:
        return load_faces()

    @cached_property
    def letters(self) -> dict[str, list[str]]:
        """Letters of each split."""
        return choose_letters(self._faces)

    @cached_property
    def _letter_of(self) -> dict[str, str]:
        return {script_and_name(letter): letter for own in self.letters.values() for letter in own}

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of images by class name."""
        return dict.fromkeys(self._letter_of, SAMPLES)

    def blocks(
        self, classes: Sequence[str], image_size: int, workers: int | None
    ) -> Iterator[tuple[int, Images]]:
        """Yield (index into `classes`, uint8 (20, image_size, image_size, 1)).

        `workers` is not used: cutting outlines is Python code, which threads do not speed up, and it takes
        seconds.
        """
        for index, name in enumerate(classes):
            letter = self._letter_of[name]
            faces = [face for face in self._faces if ord(letter) in face.names]
            yield index, draw_samples(letter, [face.outline(letter) for face in faces], image_size)[..., None]

    def sha256(self) -> str:
        """Return the checksum of the font files."""
        return fonts_sha256(self._faces)

    def notes(self) -> list[str]:
        """Return nothing: the letters are always the same."""
        return []


def draw_samples(letter: str, faces: Sequence[Outlines], size: int) -> Images:
    """Draw the 20 samples of a letter from its outlines in all faces: uint8 (20, size, size), ink 255 on 0.

    The samples depend on the letter and its outlines alone, not on what was drawn before.
    """
    philox = np.random.Philox(key=(_SEED << 64) + ord(letter))
    order = np.argsort(philox.random_raw(len(faces)), kind="stable")
    uniform = (philox.random_raw((SAMPLES, 6)) >> np.uint64(11)) * 2.0**-53
    low, high = np.array([_ANGLE, _SHEAR, _SCALE, _SHIFT, _SHIFT, _STROKE]).T
    settings = low + (high - low) * uniform
    drawn = join([faces[order[sample % len(order)]] for sample in range(SAMPLES)])
    drawn = _thickened(_centred(drawn, settings[:, 2]), settings[:, 5])
    drawn = _placed(_turned(drawn, settings[:, 0], settings[:, 1]), settings[:, 3:5])
    return rasterise(replace(drawn, points=drawn.points * size), size)


def _centred(drawn: Outlines, scale: Points) -> Outlines:
    """Scale drawings to the unit square, about the origin."""
    low, high = drawn.bounds()
    zoom = _FILL * scale / (high - low).max(axis=1)
    owner = drawn.owner
    return replace(drawn, points=(drawn.points - ((low + high) / 2)[owner]) * zoom[owner, None])


def _thickened(drawn: Outlines, stroke: Points) -> Outlines:
    """Move outlines outwards by `stroke`: every point along the mean normal of its two sides."""
    side = drawn.points[drawn.following] - drawn.points
    side /= np.sqrt(side[:, :1] ** 2 + side[:, 1:] ** 2)
    tangent = side.copy()
    tangent[drawn.following] += side
    length = np.maximum(np.sqrt(tangent[:, :1] ** 2 + tangent[:, 1:] ** 2), 1e-3)
    # Filled areas lie to the right of TrueType outlines: the normal to the left leads out of the ink.
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) / length
    return replace(drawn, points=drawn.points + stroke[drawn.owner, None] * normal)


def _turned(drawn: Outlines, angle: Points, shear: Points) -> Outlines:
    """Shear and turn drawings about the origin, and let y point downwards."""
    owner = drawn.owner
    cosine, sine = np.cos(angle)[owner], np.sin(angle)[owner]
    x, y = drawn.points[:, 0] + shear[owner] * drawn.points[:, 1], drawn.points[:, 1]
    return replace(drawn, points=np.stack([cosine * x - sine * y, -sine * x - cosine * y], axis=1))


def _placed(drawn: Outlines, shift: Points) -> Outlines:
    """Centre drawings, shift them as far as the border allows, and shrink those that are too large."""
    low, high = drawn.bounds()
    extent = high - low
    shrink = np.minimum(1.0, (1 - 2 * _MARGIN) / extent.max(axis=1, keepdims=True))
    room = np.maximum((1 - extent * shrink) / 2 - _MARGIN, 0.0)
    centre = 0.5 + np.clip(shift, -room, room)
    owner = drawn.owner
    points = (drawn.points - ((low + high) / 2)[owner]) * shrink[owner] + centre[owner]
    return replace(drawn, points=points)


def _splits(collection: Collection) -> dict[str, list[str]]:
    assert isinstance(collection, Glyphs)
    return {split: [script_and_name(letter) for letter in own] for split, own in collection.letters.items()}


SOURCE = Source(
    info=DatasetInfo(
        name="glyphs",
        aliases=("letters",),
        description="printed letters in the DejaVu faces, 28×28, ink 255 on 0; test scripts are unseen",
        counts={"train": (846, 16_920), "val": (42, 840), "test": (134, 2_680)},
        terms="DejaVu fonts: free to use, copy and change (Bitstream Vera and Arev licences).",
        citation="Rendered from the DejaVu fonts 2.37, https://dejavu-fonts.github.io.",
    ),
    image_size=IMAGE_SIZE,
    channels=1,
    splits=_splits,
    inverted=True,
    embedded=Glyphs,
)

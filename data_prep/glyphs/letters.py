"""Which letters are classes: those in enough faces, with look-alikes counted once."""

from dataclasses import replace

import numpy as np
from fontTools import unicodedata
from numpy.typing import NDArray

from data_prep.glyphs.fonts import Face
from data_prep.glyphs.outlines import join
from data_prep.glyphs.raster import rasterise

SCRIPTS = {"train": ("Latn", "Grek", "Cyrl"), "val": ("Armn",), "test": ("Geor", "Laoo")}

# Modifier letters (Lm) are left out: they are other letters made small.
_CATEGORIES = ("Lu", "Ll", "Lt", "Lo")
_MIN_FACES = 6

# Squared difference of two letters drawn to the same size, by the ink of the lighter one. Below the first
# number are pairs such as Greek Α and Cyrillic А, ĕ and ě; above it those that readers of a script tell
# apart, such as Georgian ს and ხ. The two cases of a letter (C and c, P and p) and letters of different
# splits (Տ and S, Օ and O, Ⴍ and Q) are taken for alike up to the second.
_ALIKE = 0.07
_SOMEWHAT_ALIKE = 0.18
_COMPARED_SIZE = 24


def choose_letters(faces: list[Face]) -> dict[str, list[str]]:
    """Return the letters of train, val and test that are classes, one for each set of look-alikes.

    A letter that looks like one of an earlier split is in no class: it would be known before it is tested.
    """
    candidates = _candidates(faces)
    letters = [letter for own in candidates.values() for letter in own]
    difference = _differences(_drawn(faces[0], letters))
    lower = np.array([letter.lower() for letter in letters])
    alike = difference < np.where(lower[:, None] == lower[None, :], _SOMEWHAT_ALIKE, _ALIKE)
    chosen: dict[str, list[str]] = {}
    first = 0
    for split, own in candidates.items():
        earlier = difference[:, :first].min(axis=1, initial=np.inf)
        taken: list[int] = []
        for index in range(first, first + len(own)):
            if earlier[index] >= _SOMEWHAT_ALIKE and not alike[index, taken].any():
                taken.append(index)
        chosen[split] = [letters[index] for index in taken]
        first += len(own)
    return chosen


def _candidates(faces: list[Face]) -> dict[str, list[str]]:
    """Letters of each split that are in faces enough, the first among them, by code point."""
    split_of = {script: split for split, scripts in SCRIPTS.items() for script in scripts}
    candidates: dict[str, list[str]] = {split: [] for split in SCRIPTS}
    for letter in map(chr, sorted(faces[0].names)):
        split = split_of.get(unicodedata.script(letter))
        if split and unicodedata.category(letter) in _CATEGORIES:
            drawable = [face for face in faces if ord(letter) in face.names]
            if len(drawable) >= _MIN_FACES:
                candidates[split].append(letter)
    return candidates


def _drawn(face: Face, letters: list[str]) -> NDArray[np.float64]:
    """Draw letters to fill the same square, slightly blurred: float64 (letters, pixels).

    The values are whole numbers, so that sums of their products are exact and no machine's order of adding
    them can decide whether two letters are alike.
    """
    drawn = join([face.outline(letter) for letter in letters])
    low, high = drawn.bounds()
    scale = (_COMPARED_SIZE - 4) / (high - low).max(axis=1, keepdims=True)
    owner = drawn.owner
    points = (drawn.points - ((low + high) / 2)[owner]) * scale[owner] + _COMPARED_SIZE / 2
    images = rasterise(replace(drawn, points=points), _COMPARED_SIZE).astype(np.float64)
    for axis in (1, 2):
        images = np.roll(images, 1, axis) + 2 * images + np.roll(images, -1, axis)
    return images.reshape(len(letters), -1)


def _differences(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared difference of all pairs by the ink of the lighter one, float64 (letters, letters)."""
    ink = (images**2).sum(axis=1)
    squared = ink[:, None] + ink[None, :] - 2 * images @ images.T
    return np.asarray(squared / np.minimum(ink[:, None], ink[None, :]))

"""The built-in letters."""

from pathlib import Path

import numpy as np
import pytest

from data_prep import Store, dataset_infos, verify_store
from data_prep.glyphs.fonts import load_faces
from data_prep.glyphs.outlines import from_contours, join
from data_prep.glyphs.raster import rasterise
from data_prep.sources.glyphs import Glyphs, draw_samples


def polygon(*points: tuple[float, float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array(points, np.float64)


def test_a_rectangle_covers_its_area() -> None:
    square = polygon((2.5, 2), (2.5, 6), (6.25, 6), (6.25, 2))
    image = rasterise(from_contours([square]), 8)[0]
    assert image.shape == (8, 8)
    assert (image[2:6, 3:6] == 255).all() and (image[2:6, 2] == 128).all() and (image[2:6, 6] == 64).all()
    assert image.sum(dtype=int) == 4 * (3 * 255 + 128 + 64)


def test_holes_are_empty_and_overlaps_are_full() -> None:
    outer = polygon((1, 1), (1, 7), (7, 7), (7, 1))
    hole = polygon((3, 3), (5, 3), (5, 5), (3, 5))
    with_hole, with_overlap = (from_contours([outer, inner]) for inner in (hole, hole[::-1]))
    ring, full = rasterise(join([with_hole, with_overlap]), 8)
    assert ring[4, 4] == 0 and ring[2, 2] == 255
    assert (full[1:7, 1:7] == 255).all()


def test_glyphs_are_whole_and_varied(glyphs: Path) -> None:
    verify_store(glyphs)
    with Store.open(glyphs) as store:
        for split in map(store.split, store.splits()):
            images = split.read()[..., 0].astype(np.int64)
            samples = images.reshape(len(split.class_names), 20, 28, 28)
            ink = samples.sum(axis=(2, 3)) / 255
            assert ink.min() > 10 and ink.max() < 450  # neither blank nor a filled box
            assert samples.max(axis=(2, 3)).min() > 150
            # Half a pixel of margin: nothing is cut off.
            assert max(images[:, [0, -1]].max(), images[:, :, [0, -1]].max()) <= 140
            assert all(len({sample.tobytes() for sample in own}) == 20 for own in samples)


def test_glyphs_have_the_counts_and_scripts_they_should(glyphs: Path) -> None:
    info = next(info for info in dataset_infos() if info.name == "glyphs")
    scripts = {"train": {"Latin", "Greek", "Cyrillic"}, "val": {"Armenian"}, "test": {"Georgian", "Lao"}}
    with Store.open(glyphs) as store:
        for name in store.splits():
            split = store.split(name)
            assert (len(split.class_names), split.images.shape[0]) == info.counts[name]
            assert {label.split("/")[0] for label in split.class_names} == scripts[name]
        assert "Greek/GREEK CAPITAL LETTER OMEGA" in store.split("train").class_names
        everything = {label for name in store.splits() for label in store.split(name).class_names}
    # Greek Α and Cyrillic А look like Latin A, c like C, and Armenian Օ like O.
    assert "Latin/LATIN CAPITAL LETTER A" in everything
    assert not everything & {
        "Greek/GREEK CAPITAL LETTER ALPHA",
        "Cyrillic/CYRILLIC CAPITAL LETTER A",
        "Latin/LATIN SMALL LETTER C",
        "Armenian/ARMENIAN CAPITAL LETTER OH",
    }


def test_glyphs_are_the_same_everywhere(glyphs: Path) -> None:
    """The images of these very fonts: results on glyphs are only comparable while this holds."""
    with Store.open(glyphs) as store:
        if not store.attributes["source_sha256"].startswith("b8cc1ce92dd22815"):
            pytest.skip("matplotlib ships other fonts")
        assert store.sha256.startswith("7718715b1f3bd70b")


def test_a_letters_samples_do_not_depend_on_what_was_drawn_before() -> None:
    faces = load_faces()
    outlines = {letter: [face.outline(letter) for face in faces] for letter in "AQ"}
    first = draw_samples("Q", outlines["Q"], 28)
    draw_samples("A", outlines["A"], 28)
    np.testing.assert_array_equal(draw_samples("Q", outlines["Q"], 28), first)


def test_glyphs_can_be_larger() -> None:
    images = Glyphs()
    [(index, block)] = images.blocks([next(iter(images.counts))], 64, None)
    assert index == 0 and block.shape == (20, 64, 64, 1)

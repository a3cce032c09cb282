"""Training images varied: against NumPy's shifts and mirrors, and Pillow's colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_support import chi_square, generator
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from pamela_cli import Augmentation
from pamela_cli.engine.augmentation import NO_AUGMENTATION
from pamela_cli.engine.episodes import ImageEpisodes, ImagePool


def random_images(*size: int) -> torch.Tensor:
    return torch.randint(0, 256, size, generator=generator(0), dtype=torch.uint8)


def bytes_pool(images: torch.Tensor, dtype: torch.dtype = torch.float64) -> ImagePool:
    """A pool of two classes, whose standardised pixels are the bytes."""
    channels, half = images.shape[1], len(images) // 2
    mean, std = torch.zeros(channels, dtype=dtype), torch.full((channels,), 1 / 255, dtype=dtype)
    return ImagePool(images, torch.tensor([0, half, len(images)]), mean, std)


def shifted(image: np.ndarray, down: int, right: int, mirrored: bool) -> np.ndarray:
    """An image (C, H, W), moved, with black where nothing came, then mirrored."""
    out = np.zeros_like(image)
    _, height, width = image.shape
    rows, columns = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    back_rows = slice(max(-down, 0), height + min(-down, 0))
    back_columns = slice(max(-right, 0), width + min(-right, 0))
    out[:, rows, columns] = image[:, back_rows, back_columns]
    return out[:, :, ::-1] if mirrored else out


def numbers_of(**at: float) -> torch.Tensor:
    """The numbers of one image (1, 1, 6): in the middle, but for the named ones."""
    names = ("row", "column", "mirror", *COLOURS)
    return torch.tensor([[[at.get(name, 0.5) for name in names]]], dtype=torch.float64)


@given(
    crop=st.integers(0, 4),
    flip=st.booleans(),
    row=st.floats(0, 1, exclude_max=True),
    column=st.floats(0, 1, exclude_max=True),
    mirror=st.floats(0, 1, exclude_max=True),
    channels=st.sampled_from([1, 3]),
)
@settings(max_examples=60)
def test_an_image_is_moved_as_its_numbers_say(crop, flip, row, column, mirror, channels):
    image = random_images(1, 1, channels, 5, 7)
    numbers = numbers_of(row=row, column=column, mirror=mirror)
    found = Augmentation(crop, flip).moved(image, numbers)[0, 0]
    down, right = (crop - int(number * (2 * crop + 1)) for number in (row, column))
    wanted = shifted(image[0, 0].numpy(), down, right, flip and mirror < 0.5)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), wanted)


def test_every_shift_and_mirror_is_drawn_evenly_and_each_by_itself():
    numbers = NO_AUGMENTATION.draw(0, 0, torch.arange(500)[:, None, None], 20)
    assert numbers.shape == (500, 20, 6)
    halves = (numbers * 2).long()  # of each number, which half it is in
    together = (halves * 2 ** torch.arange(6)).sum(-1).flatten()
    # χ² with 63 degrees of freedom, above 125 once in 200,000.
    assert chi_square(torch.bincount(together, minlength=64).double(), 10_000 / 64) < 125
    shifts = (numbers[..., 0] * 9).long().flatten()
    assert chi_square(torch.bincount(shifts, minlength=9).double(), 10_000 / 9) < 40


COLOURS = ("brightness", "contrast", "saturation")


def pillow_colours(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    picture = Image.fromarray(image.transpose(1, 2, 0))
    for enhance, factor in (
        (ImageEnhance.Brightness, brightness),
        (ImageEnhance.Contrast, contrast),
        (ImageEnhance.Color, saturation),
    ):
        picture = enhance(picture).enhance(factor)
    return np.asarray(picture).transpose(2, 0, 1)


@pytest.mark.parametrize("number", [0.0, 0.2, 0.7, 0.99])
@pytest.mark.parametrize(
    ("varied", "allowed"),
    [(["brightness"], 1.0), (["contrast"], 1.5), (["saturation"], 1.5), ([*COLOURS], 4.0)],
)
def test_colours_are_pillows(varied: list[str], allowed: float, number: float):
    """Pillow cuts to whole bytes after each of the three; hence what is allowed."""
    image, share = random_images(1, 1, 3, 8, 8), 0.4
    found = Augmentation(color_jitter=share).coloured(
        image.double() / 255, numbers_of(**dict.fromkeys(varied, number))
    )
    factors = [1 + share * (2 * number - 1) if name in varied else 1.0 for name in COLOURS]
    wanted = pillow_colours(image[0, 0].numpy(), *factors)
    assert np.abs(255 * found[0, 0].numpy() - wanted).max() <= allowed
    assert (wanted != image[0, 0].numpy()).any()


def test_grey_images_have_no_saturation():
    images = random_images(1, 2, 1, 6, 6).double() / 255
    varied = Augmentation(color_jitter=0.5)
    one, other = (varied.coloured(images, numbers_of(saturation=s).expand(1, 2, -1)) for s in (0.0, 0.9))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-15)
    darker = varied.coloured(images, numbers_of(brightness=0.0).expand(1, 2, -1))
    torch.testing.assert_close(darker, images / 2, rtol=0, atol=1e-15)


@pytest.mark.parametrize("jitter", [0.3, 1.0])
def test_values_stay_in_their_range(jitter):
    numbers = torch.rand(2, 30, 6, generator=generator(1), dtype=torch.float64)
    found = Augmentation(color_jitter=jitter).coloured(random_images(2, 30, 3, 4, 4).double() / 255, numbers)
    assert found.min() >= 0
    assert found.max() <= 1


# --- in tasks -----------------------------------------------------------------------------------------


def drawn(augmentation: Augmentation, split: str = "train", step: int = 0, **options):
    pool = bytes_pool(random_images(20, 3, 6, 6))
    source = ImageEpisodes(pool, split, 2, 2, 3, augmentation=augmentation, **options)
    return source, source.draw(5, step, torch.arange(40))


def test_tasks_have_the_same_images_as_without():
    """Each is one of the image's forms, and they are many."""
    crop = 1
    _, plain = drawn(NO_AUGMENTATION)
    _, varied = drawn(Augmentation(crop, flip=True))
    forms = [(d, r, m) for d in (-1, 0, 1) for r in (-1, 0, 1) for m in (False, True)]
    found = set()
    for x, y in ((plain.support_x, varied.support_x), (plain.query_x, varied.query_x)):
        for before, after in zip(x.flatten(0, 1).numpy(), y.flatten(0, 1).numpy(), strict=True):
            hits = [form for form in forms if np.allclose(shifted(before, *form), after, atol=1e-9)]
            assert len(hits) == 1
            found.add(hits[0])
    assert len(found) == len(forms)
    assert torch.equal(plain.query_y, varied.query_y)


def test_a_turned_class_is_varied_after_it_was_turned():
    _, plain = drawn(NO_AUGMENTATION, rotations=True)
    _, varied = drawn(Augmentation(flip=True), rotations=True)
    same, mirrored = (
        (varied.query_x == x).flatten(2).all(2) for x in (plain.query_x, plain.query_x.flip(-1))
    )
    assert (same ^ mirrored).all()
    assert same.any() and mirrored.any()


def test_images_vary_from_step_to_step_and_not_with_their_company():
    source, first = drawn(Augmentation(2, True, 0.4))
    alone = source.draw(5, 0, torch.tensor([7]))
    assert torch.equal(alone.support_x[0], first.support_x[7])
    numbers = [source.augmentation.draw(*address, torch.zeros(1, 1, 1).long(), 4) for address in
               ((5, 0), (5, 1), (6, 0))]  # fmt: skip
    assert not any(torch.equal(numbers[i], numbers[j]) for i in range(3) for j in range(i))


def test_frozen_tasks_are_not_varied():
    source, _ = drawn(Augmentation(2, True, 0.4))
    rows = torch.tensor([[[0, 1, 2, 3, 4], [10, 11, 12, 13, 14]]])
    assert torch.equal(source.gather(rows).support_x[0, 0], source.pool.images[0].double() / 255 * 255)


def test_the_contrast_of_an_image_is_about_its_own_brightness():
    images = random_images(1, 2, 3, 6, 6).double() / 255
    images[:, 1] /= 4
    varied = Augmentation(color_jitter=0.5)
    both = varied.coloured(images, numbers_of(contrast=0.9).expand(1, 2, -1))
    for k in range(2):
        alone = varied.coloured(images[:, k : k + 1], numbers_of(contrast=0.9))
        torch.testing.assert_close(both[:, k : k + 1], alone, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    "alone", [Augmentation(crop=1), Augmentation(flip=True), Augmentation(color_jitter=0.4)]
)
def test_each_kind_of_variation_does_something_by_itself(alone):
    _, plain = drawn(NO_AUGMENTATION)
    _, varied = drawn(alone)
    assert not torch.equal(plain.support_x, varied.support_x)
    assert not torch.equal(plain.query_x, varied.query_x)


def test_support_and_query_are_varied_each_by_itself():
    """One image in every place: only how it is varied differs."""
    images = random_images(1, 3, 6, 6).expand(20, -1, -1, -1)
    source = ImageEpisodes(bytes_pool(images), "train", 2, 2, 2, augmentation=Augmentation(1, flip=True))
    tasks = source.draw(5, 0, torch.arange(40))
    alike = (tasks.support_x == tasks.query_x).flatten(2).all(2).double().mean()
    assert alike < 0.2  # of 18 forms, two are the same once in 18

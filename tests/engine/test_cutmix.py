"""Queries with patches of each other, and targets that are shares of classes."""

from __future__ import annotations

import pytest
import torch
from engine_support import chi_square, cpu_runner, generator, image_tasks, make_learner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from pamela_cli import Augmentation
from pamela_cli.engine.backbones import Conv4
from pamela_cli.engine.episodes import ImageEpisodes, ImagePool
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.tasks import Classification, Tasks

ALWAYS = Augmentation(cutmix=1.0)


def numbers(*each: tuple[float, float, float, float, float]) -> Tensor:
    """For one task's images: whether, with which, how much, around which row and column."""
    return torch.tensor([[(0.0,) * 6 + one for one in each]], dtype=torch.float64)


def flat_images(values: list[float], side: int = 4) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[None, :, None, None, None].expand(1, -1, 1, side, side)


def test_a_patch_worked_out_by_hand() -> None:
    """A quarter of 4×4 pixels of the second image, around the middle of the first; none around it."""
    given = numbers((0.2, 0.5, 0.25, 0.5, 0.5), (0.9, 0.0, 1.0, 0.5, 0.5))
    found, shares = Augmentation(cutmix=0.5).mixed(flat_images([1, 2]), torch.tensor([[0, 2]]), given, 3)
    middle = torch.ones(4, 4, dtype=torch.float64)
    middle[1:3, 1:3] = 2
    assert torch.equal(found[0, 0, 0], middle)
    assert torch.equal(found[0, 1, 0], torch.full((4, 4), 2.0, dtype=torch.float64)), "0.9 is not below 0.5"
    assert shares.tolist() == [[[0.75, 0, 0.25], [0, 0, 1]]]


def test_a_patch_at_the_border_is_cut_off_there() -> None:
    found, shares = ALWAYS.mixed(
        flat_images([1, 2]), torch.tensor([[0, 1]]), numbers((0, 0.5, 0.25, 0.0, 0.99), (0, 0, 0, 0, 0)), 2
    )
    assert found[0, 0, 0].tolist() == [[1, 1, 1, 2], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert shares.tolist() == [[[15 / 16, 1 / 16], [0, 1]]]


@given(data=st.data(), count=st.integers(1, 6), height=st.integers(1, 9), width=st.integers(1, 9))
@settings(max_examples=60)
def test_shares_are_those_of_the_pixels(data, count: int, height: int, width: int) -> None:
    unit = st.floats(0, 1, exclude_max=True)
    given = numbers(*(data.draw(st.tuples(unit, unit, unit, unit, unit)) for _ in range(count)))
    classes = torch.tensor([[data.draw(st.integers(0, 2)) for _ in range(count)]])
    images = (10.0 * torch.arange(count) + classes[0]).double()[None, :, None, None, None]
    images = images.expand(1, count, 2, height, width)
    found, shares = Augmentation(cutmix=0.7).mixed(images, classes, given, 3)
    assert found.shape == images.shape and shares.shape == (1, count, 3)
    for i in range(count):
        own, other = images[0, i, 0, 0, 0], images[0, int(given[0, i, 7] * count), 0, 0, 0]
        patched = found[0, i, 0] != own
        assert torch.equal(found[0, i, 0], found[0, i, 1]), "all channels alike"
        assert torch.equal(found[0, i, 0][patched], other.expand(int(patched.sum())))
        pixels = torch.stack([(found[0, i, 0] % 10 == c).double().mean() for c in range(3)])
        torch.testing.assert_close(shares[0, i], pixels, rtol=1e-12, atol=1e-12)


def episodes(split: str, augmentation: Augmentation) -> ImageEpisodes:
    pixels = torch.randint(0, 256, (200, 1, 8, 8), generator=generator(0), dtype=torch.uint8)
    one = torch.ones(1, dtype=torch.float64)
    pool = ImagePool(pixels, torch.arange(0, 201, 20), 0 * one, one)
    return ImageEpisodes(pool, split, 5, 2, 4, augmentation=augmentation)


def test_only_queries_are_mixed() -> None:
    plain, mixed = (
        episodes("train", augmentation).draw(1, 2, range(3)) for augmentation in (Augmentation(), ALWAYS)
    )
    assert torch.equal(mixed.support_x, plain.support_x) and torch.equal(mixed.support_y, plain.support_y)
    assert mixed.query_y.shape == (3, 20, 5) and mixed.query_y.dtype == mixed.query_x.dtype
    torch.testing.assert_close(mixed.query_y.sum(-1), torch.ones(3, 20, dtype=torch.float64))
    whole = mixed.query_y.gather(2, plain.query_y[..., None])[..., 0] == 1
    same = (mixed.query_x == plain.query_x).flatten(2).all(2)
    assert not whole.all()
    assert torch.equal(mixed.query_x[same], plain.query_x[same]) and whole[same].all()


def test_the_other_augmentations_are_what_they_are_without() -> None:
    """Their random numbers have the same addresses."""
    moved = Augmentation(2, True, 0.4)
    plain = episodes("train", moved).draw(1, 2, range(3))
    mixed = episodes("train", Augmentation(2, True, 0.4, cutmix=1e-12)).draw(1, 2, range(3))
    assert torch.equal(mixed.query_x, plain.query_x)
    assert torch.equal(mixed.query_y.argmax(-1), plain.query_y)
    assert torch.equal(mixed.query_y, F.one_hot(plain.query_y, 5).double())


def test_whether_and_with_which_are_drawn_evenly() -> None:
    drawn = Augmentation(cutmix=0.3).draw(0, 0, torch.arange(100)[:, None, None], 20)
    assert drawn.shape == (100, 20, 11)
    assert 0.26 < float((drawn[..., 6] < 0.3).double().mean()) < 0.34
    partners = (drawn[..., 7] * 20).long().flatten()
    # χ² with 19 degrees of freedom, above 55 once in 40,000.
    assert chi_square(torch.bincount(partners, minlength=20).double(), 100.0) < 55


# --- shares as targets --------------------------------------------------------------------------------


def random_shares(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator(5), dtype=torch.float64).softmax(-1)


def test_the_loss_of_shares_is_the_mean_of_the_losses() -> None:
    outputs = torch.randn(2, 6, 4, generator=generator(1), dtype=torch.float64)
    shares, objective = random_shares(2, 6, 4), Classification(4)
    each = torch.stack([-outputs.log_softmax(-1)[..., c] for c in range(4)], -1)
    torch.testing.assert_close(objective.loss(outputs, shares), (each * shares).sum(-1).mean(1))
    certain = torch.arange(6).remainder(4).expand(2, 6)
    one_hot = F.one_hot(certain, 4).double()
    torch.testing.assert_close(objective.loss(outputs, one_hot), objective.loss(outputs, certain))
    assert torch.equal(objective.gradient(outputs, one_hot), objective.gradient(outputs, certain))
    assert torch.equal(objective.score(outputs, one_hot), objective.score(outputs, certain))


def test_its_gradient_is_autograds() -> None:
    outputs = torch.randn(2, 6, 5, generator=generator(1), dtype=torch.float64, requires_grad=True)
    shares, objective = random_shares(2, 6, 4), Classification(4)  # the fifth output takes no part
    (expected,) = torch.autograd.grad(objective.loss(outputs, shares).sum(), outputs)
    torch.testing.assert_close(objective.gradient(outputs.detach(), shares), expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_meta_gradient_of_shares_is_the_mean_over_the_classes(compiled: bool) -> None:
    """The query loss is linear in its targets, and so is its meta-gradient."""
    learner, tasks = make_learner("pamela", Conv4(3, 1, 16, 4), 3, 1), image_tasks(2, 3, 1, 2)
    objective, runner = Classification(3), cpu_runner(compiled=compiled)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)

    def gradient(query_y: Tensor) -> Tensor:
        given = Tasks(tasks.support_x, tasks.support_y, tasks.query_x, query_y)
        found = mean_meta_gradient(learner, objective, given, runner)
        return torch.cat([found.theta, found.q.flatten(), found.p.flatten(), found.loss])

    mixed = gradient(weights.expand(2, 6, 3).contiguous())
    parts = [weight * gradient(torch.full((2, 6), c)) for c, weight in enumerate(weights)]
    torch.testing.assert_close(mixed, torch.stack(parts).sum(0), rtol=1e-9, atol=1e-12)

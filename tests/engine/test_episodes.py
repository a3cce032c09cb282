"""Tasks: that they depend on their address alone, and are made of what they say."""

import pytest
import torch
from engine_support import chi_square, generator, sines
from torch import Tensor

from pamela_cli.engine.augmentation import Augmentation
from pamela_cli.engine.episodes import ImageEpisodes, ImagePool, TooFewError, usable_classes
from pamela_cli.engine.tasks import Tasks

SIZES = [9, 12, 7, 30, 9, 8, 15, 10, 40, 9, 11, 13]
"""Images of each class: unequal."""


def coded_pool(sizes: list[int] = SIZES) -> ImagePool:
    """2×2 images that say what they are: class, number within the class; below 200 and 220.

    The mean is 0 and the deviation 1/255, so that standardised pixels are the bytes themselves.
    """
    images = [[[c, i], [200, 220]] for c, size in enumerate(sizes) for i in range(size)]
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    mean, std = torch.zeros(1, dtype=torch.float64), torch.full((1,), 1 / 255, dtype=torch.float64)
    return ImagePool(torch.tensor(images, dtype=torch.uint8)[:, None], offsets, mean, std)


def pixels(x: Tensor) -> Tensor:
    """The bytes, (T, B, 2, 2)."""
    return x[:, :, 0].round().long()


def classes(x: Tensor) -> Tensor:
    return pixels(x)[:, :, 0, 0]


def members(x: Tensor) -> Tensor:
    return pixels(x)[:, :, 0, 1]


def parts(tasks: Tasks) -> tuple[Tensor, ...]:
    return tasks.support_x, tasks.support_y, tasks.query_x, tasks.query_y


def same(a: Tasks, b: Tasks) -> bool:
    return all(torch.equal(x, y) for x, y in zip(parts(a), parts(b), strict=True))


def episodes(split: str = "train", way: int = 4, shot: int = 2, query: int = 3, **options) -> ImageEpisodes:
    return ImageEpisodes(coded_pool(), split, way, shot, query, **options)


def varied(split: str = "train") -> ImageEpisodes:
    return episodes(split, rotations=True, augmentation=Augmentation(1, True, 0.4))


SOURCES = [episodes, lambda split="train": episodes(split, rotations=True), varied, sines]


# --- the address ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_a_task_is_the_same_whatever_is_drawn_with_it(source):
    together = source().draw(7, 3, torch.arange(6))
    for indices in ([4], [4, 0], [5, 4, 3], [4, 4]):
        drawn = source().draw(7, 3, torch.tensor(indices))
        for a, b in zip(parts(drawn), parts(together), strict=True):
            assert torch.equal(a, b[indices])


@pytest.mark.parametrize("source", SOURCES)
def test_drawing_leaves_and_reads_no_generator(source):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = source().draw(7, 3, torch.arange(2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(source().draw(7, 3, torch.arange(2)), first)


@pytest.mark.parametrize("source", SOURCES)
def test_tasks_differ_by_split_seed_step_and_index(source):
    drawn = [
        source("train").draw(0, 0, torch.arange(4)),
        source("val").draw(0, 0, torch.arange(4)),
        source("test").draw(0, 0, torch.arange(4)),
        source("train").draw(1, 0, torch.arange(4)),
        source("train").draw(0, 1, torch.arange(4)),
        source("train").draw(2**63 - 1, 10**9, torch.arange(4)),
    ]
    tasks = [x for tasks in drawn for x in tasks.support_x]
    assert not any(torch.equal(tasks[i], tasks[j]) for i in range(len(tasks)) for j in range(i))


# --- images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotations", [False, True])
def test_a_task_has_the_right_number_of_images_of_each_class_in_order(rotations):
    drawn = episodes(way=4, shot=2, query=3, rotations=rotations).draw(0, 0, torch.arange(50))
    assert drawn.support_x.shape == (50, 8, 1, 2, 2)
    assert drawn.query_x.shape == (50, 12, 1, 2, 2)
    assert (drawn.support_y == torch.arange(4).repeat_interleave(2)).all()
    assert (drawn.query_y == torch.arange(4).repeat_interleave(3)).all()
    assert len(drawn) == 50


def test_a_task_has_distinct_classes_and_a_label_means_one_of_them():
    drawn = episodes().draw(0, 0, torch.arange(200))
    support, query = classes(drawn.support_x).view(200, 4, 2), classes(drawn.query_x).view(200, 4, 3)
    assert (support == support[:, :, :1]).all()
    assert (query == support[:, :, :1]).all()
    assert all(len(set(task.tolist())) == 4 for task in support[:, :, 0])


def test_no_image_is_twice_in_a_task_and_all_are_of_their_class():
    drawn = episodes().draw(0, 0, torch.arange(200))
    both = torch.cat([drawn.support_x, drawn.query_x], 1)
    for task_classes, task_members in zip(classes(both).tolist(), members(both).tolist(), strict=True):
        images = list(zip(task_classes, task_members, strict=True))
        assert len(set(images)) == 20
        assert all(member < SIZES[c] for c, member in images)


def test_classes_are_drawn_evenly_in_every_place():
    drawn = episodes().draw(0, 0, torch.arange(3000))
    places = classes(drawn.support_x).view(3000, 4, 2)[:, :, 0]
    for place in range(4):
        counts = torch.bincount(places[:, place], minlength=12).double()
        # χ² with 11 degrees of freedom: above 45 once in 200,000.
        assert chi_square(counts, 3000 / 12) < 45


def test_images_of_a_class_are_drawn_evenly_in_every_place():
    drawn = ImageEpisodes(coded_pool([10, 5]), "train", 2, 2, 3).draw(0, 0, torch.arange(4000))
    both = torch.cat([drawn.support_x.view(4000, 2, 2, 1, 2, 2), drawn.query_x.view(4000, 2, 3, 1, 2, 2)], 2)
    which, member = both[:, :, :, 0, 0, 0].round().long(), both[:, :, :, 0, 0, 1].round().long()
    for place in range(5):
        for c, size in ((0, 10), (1, 5)):
            drawn_here = member[:, :, place][which[:, :, place] == c]
            # χ² with at most 9 degrees of freedom: above 42 once in 300,000.
            assert chi_square(torch.bincount(drawn_here, minlength=size).double(), 4000 / size) < 42


def test_successive_tasks_are_independent():
    # That two successive tasks start with the same class happens once in 12.
    first = classes(episodes().draw(0, 0, torch.arange(6000)).support_x)[:, 0]
    share = (first[1:] == first[:-1]).double().mean().item()
    assert abs(share - 1 / 12) < 0.018  # five deviations


def test_classes_with_too_few_images_are_left_out():
    source = episodes(shot=2, query=8)  # 10 images each: classes 0, 2, 4, 5 and 9 have fewer
    assert source.left_out == 5
    seen = set(classes(source.draw(0, 0, torch.arange(300)).query_x).flatten().tolist())
    assert seen == {c for c, size in enumerate(SIZES) if size >= 10}


def test_a_class_with_just_enough_images_gives_all_of_them():
    drawn = ImageEpisodes(coded_pool([5, 5]), "train", 2, 2, 3).draw(0, 0, torch.arange(20))
    both = torch.cat([drawn.support_x, drawn.query_x], 1)
    pairs = [
        sorted(zip(c, m, strict=True))
        for c, m in zip(classes(both).tolist(), members(both).tolist(), strict=True)
    ]
    assert pairs == [[(c, m) for c in range(2) for m in range(5)]] * 20


def test_all_classes_can_be_in_a_task():
    drawn = episodes(way=12, shot=1, query=1).draw(0, 0, torch.arange(5))
    assert classes(drawn.support_x).sort(1).values.tolist() == [list(range(12))] * 5


@pytest.mark.parametrize(("way", "shot", "query"), [(13, 1, 1), (8, 2, 8), (3, 20, 11), (2, 30, 11)])
def test_too_few_classes_are_an_error_that_counts_them(way, shot, query):
    left = sum(size >= shot + query for size in SIZES)
    with pytest.raises(
        TooFewError, match=rf"the val split has {left} classes with the {shot + query} images"
    ):
        episodes("val", way, shot, query)


def test_usable_classes_say_which():
    offsets = torch.tensor([0, 3, 3, 8, 13])
    assert usable_classes(offsets, "train", 2, 5).tolist() == [False, False, True, True]
    assert usable_classes(offsets, "train", 3, 3).tolist() == [True, False, True, True]
    assert usable_classes(offsets, "train", 8, 5, turns=4).sum() == 2
    with pytest.raises(TooFewError):
        usable_classes(offsets, "train", 9, 5, turns=4)


# --- turned classes ---------------------------------------------------------------------------------


def turns(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quarter turns of each image, and its class and number once turned back."""
    # 200 and 220 stand below in an upright image; the class is in the corner across from 220.
    images = pixels(x)
    found = torch.full(images.shape[:2], -1)
    upright = torch.zeros_like(images)
    for k in range(4):
        back = torch.stack([torch.rot90(i, -k) for i in images.flatten(0, 1)]).view(images.shape)
        hit = (back[..., 1, 0] == 200) & (back[..., 1, 1] == 220)
        found[hit] = k
        upright[hit] = back[hit]
    assert (found >= 0).all()  # every image is a quarter turn of one in the pool, not a mirror image
    return found, upright[..., 0, 0], upright[..., 0, 1]


def test_a_turned_class_is_turned_in_support_and_query_alike():
    drawn = episodes(rotations=True).draw(0, 0, torch.arange(100))
    angle, which, member = turns(torch.cat([drawn.support_x, drawn.query_x], 1))
    labels = torch.cat([drawn.support_y, drawn.query_y], 1)
    for task in range(100):
        kinds = {}
        for label, a, c in zip(*(t[task].tolist() for t in (labels, angle, which)), strict=True):
            assert kinds.setdefault(label, (a, c)) == (a, c)
        assert len(set(kinds.values())) == 4
        images = zip(*(t[task].tolist() for t in (angle, which, member)), strict=True)
        assert len(set(images)) == 20
        assert all(m < SIZES[c] for c, m in zip(which[task].tolist(), member[task].tolist(), strict=True))


def test_every_turn_of_every_class_is_drawn_evenly():
    drawn = episodes(rotations=True).draw(0, 0, torch.arange(2000))
    angle, which, _ = turns(drawn.support_x[:, ::2])
    counts = torch.bincount((angle * 12 + which).flatten(), minlength=48).double()
    # χ² with 47 degrees of freedom, above 100 once in 80,000.
    assert chi_square(counts, 2000 * 4 / 48) < 100


def test_the_turns_of_a_class_make_classes_of_their_own():
    source = ImageEpisodes(coded_pool([5, 6]), "train", 8, 2, 3, rotations=True)
    angle, which, _ = turns(source.draw(0, 0, torch.arange(3)).support_x[:, ::2])
    assert all(sorted(task) == list(range(8)) for task in (angle * 2 + which).tolist())
    with pytest.raises(TooFewError, match="has 8 classes"):
        ImageEpisodes(coded_pool([5, 6]), "train", 9, 2, 3, rotations=True)


def test_without_rotations_images_are_upright():
    angle, _, _ = turns(episodes().draw(0, 0, torch.arange(50)).support_x)
    assert (angle == 0).all()


# --- frozen tasks, standardisation ------------------------------------------------------------------


def test_gathered_rows_give_their_images_support_columns_first():
    source = episodes(way=2, shot=2, query=1)
    offsets = coded_pool().offsets
    # Task 0: class 3, images 5, 1 | 0 and class 0, images 2, 8 | 4. Task 1: classes 1 and 2.
    wanted = [
        [[(3, 5), (3, 1), (3, 0)], [(0, 2), (0, 8), (0, 4)]],
        [[(1, 0), (1, 11), (1, 3)], [(2, 6), (2, 5), (2, 4)]],
    ]
    rows = torch.tensor([[[offsets[c] + i for c, i in row] for row in task] for task in wanted])
    tasks = source.gather(rows)
    for t in range(2):
        support = list(
            zip(classes(tasks.support_x)[t].tolist(), members(tasks.support_x)[t].tolist(), strict=True)
        )
        query = list(zip(classes(tasks.query_x)[t].tolist(), members(tasks.query_x)[t].tolist(), strict=True))
        assert support == wanted[t][0][:2] + wanted[t][1][:2]
        assert query == [wanted[t][0][2], wanted[t][1][2]]
    assert tasks.support_y.tolist() == [[0, 0, 1, 1]] * 2
    assert tasks.query_y.tolist() == [[0, 1]] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_are_divided_by_255_and_standardised_by_channel(dtype):
    images = torch.randint(0, 256, (6, 3, 4, 5), generator=generator(0), dtype=torch.uint8)
    mean, std = torch.tensor([0.4, 0.5, 0.25], dtype=dtype), torch.tensor([0.2, 0.25, 0.5], dtype=dtype)
    pool = ImagePool(images, torch.tensor([0, 3, 6]), mean, std)
    found = pool.standardised(torch.tensor([[5, 0], [1, 1]]))
    assert found.dtype == dtype
    assert found.shape == (2, 2, 3, 4, 5)
    for (t, b), i in {(0, 0): 5, (0, 1): 0, (1, 0): 1, (1, 1): 1}.items():
        for c in range(3):
            assert torch.equal(found[t, b, c], (images[i, c].to(dtype) / 255 - mean[c]) / std[c])


# --- batches ------------------------------------------------------------------------------------------


def test_chunks_are_the_tasks_in_order():
    tasks = sines().draw(0, 0, torch.arange(7))
    chunks = list(tasks.chunks(3))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    for k, whole in enumerate(parts(tasks)):
        assert torch.equal(torch.cat([parts(chunk)[k] for chunk in chunks]), whole)


def test_images_of_the_classes_of_a_task_are_drawn_each_by_themselves():
    # That two classes of ten images give the same one first happens once in ten.
    source = ImageEpisodes(coded_pool([10] * 4), "train", 4, 2, 3)
    first = members(source.draw(0, 0, torch.arange(2000)).support_x).view(2000, 4, 2)[:, :, 0]
    assert abs((first[:, 1:] == first[:, :-1]).double().mean().item() - 1 / 10) < 0.02  # five deviations

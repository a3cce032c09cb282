"""Mirror images in support sets, and of queries."""

from __future__ import annotations

import pytest
import torch
from engine_support import cpu_runner, generator, image_tasks, make_learner
from torch import Tensor

from pamela_cli import Augmentation, adapt, evaluate
from pamela_cli.engine.backbones import MLP, Conv4
from pamela_cli.engine.episodes import ImageEpisodes, ImagePool, SineEpisodes
from pamela_cli.engine.evaluation import evaluate as judged
from pamela_cli.engine.inner_loop import Learner, inner_loop
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.mirror import averaged, both_views, mirrored, with_mirrored_support
from pamela_cli.engine.tasks import Classification, Regression, Tasks

FIVE = Classification(5)


def learner() -> Learner:
    return make_learner("pamela", Conv4(5, 1, 16, 4), steps=3, w=1)


def adapted_theta(of: Learner, tasks: Tasks) -> Tensor:
    *_, last = inner_loop(of, FIVE, tasks, of.expand(), of.rule.steps)
    return last


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-9, atol=1e-11)


# --- by hand ------------------------------------------------------------------------------------------


def test_a_support_set_is_followed_by_its_mirror_images() -> None:
    x = torch.tensor([[[[[1, 2, 3], [4, 5, 6]]], [[[7, 8, 9], [0, 0, 1]]]]])
    y, query = torch.tensor([[0, 1]]), torch.zeros(1, 4, 1, 2, 3)
    found = with_mirrored_support(Tasks(x, y, query, torch.zeros(1, 4)))
    assert found.support_x[0, :2].tolist() == x[0].tolist()
    assert found.support_x[0, 2:, 0].tolist() == [[[3, 2, 1], [6, 5, 4]], [[9, 8, 7], [1, 0, 0]]]
    assert found.support_y.tolist() == [[0, 1, 0, 1]]
    assert found.query_x is query


def test_the_mean_of_logits_is_the_geometric_mean_of_probabilities() -> None:
    one, other = torch.randn(2, 3, 4, 5, generator=generator(0), dtype=torch.float64)
    each = {0.0: one, 1.0: other}
    found = averaged(lambda view: each[view.item()], [torch.tensor(0.0), torch.tensor(1.0)]).softmax(-1)
    geometric = (one.softmax(-1) * other.softmax(-1)).sqrt()
    assert close(found, geometric / geometric.sum(-1, keepdim=True))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 4, 5), (2, 3, 1, 1, 1, 1)])
def test_only_images_have_mirror_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"only images.*not inputs of shape"):
        both_views(torch.zeros(shape))


# --- what does not change -----------------------------------------------------------------------------


def test_it_does_not_matter_which_of_two_mirror_images_is_given() -> None:
    of, tasks = learner(), image_tasks(3, 5, 2, 3)
    turned = Tasks(mirrored(tasks.support_x), tasks.support_y, mirrored(tasks.query_x), tasks.query_y)
    thetas = [adapted_theta(of, with_mirrored_support(each)) for each in (tasks, turned)]
    assert close(*thetas) and not close(adapted_theta(of, tasks), adapted_theta(of, turned))
    scores = [evaluate(of, FIVE, with_mirrored_support(t), mirror_query=True) for t in (tasks, turned)]
    assert scores[0].loss == pytest.approx(scores[1].loss)
    assert scores[0].loss != pytest.approx(evaluate(of, FIVE, with_mirrored_support(tasks)).loss)


def test_images_that_are_their_own_mirror_images_change_nothing() -> None:
    of, tasks = learner(), image_tasks(2, 5, 2, 3)
    own = [(x + mirrored(x)) / 2 for x in (tasks.support_x, tasks.query_x)]
    even = Tasks(own[0], tasks.support_y, own[1], tasks.query_y)
    assert close(adapted_theta(of, even), adapted_theta(of, with_mirrored_support(even)))
    one, other = (
        mean_meta_gradient(of, FIVE, even, cpu_runner()),
        mean_meta_gradient(of, FIVE, with_mirrored_support(even), cpu_runner()),
    )
    assert close(one.theta, other.theta) and close(one.q, other.q) and close(one.p, other.p)
    for norm_stats in ("query", "support"):
        plain = evaluate(of, FIVE, even, norm_stats=norm_stats)
        helped = evaluate(of, FIVE, with_mirrored_support(even), norm_stats=norm_stats, mirror_query=True)
        assert plain.loss == pytest.approx(helped.loss) and (plain.score == helped.score).all()


# --- evaluation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_stats", ["query", "support"])
def test_evaluation_averages_what_the_adapted_network_says(norm_stats: str) -> None:
    of, tasks = learner(), image_tasks(3, 5, 1, 4)
    found = evaluate(of, FIVE, with_mirrored_support(tasks), norm_stats=norm_stats, mirror_query=True)
    for i in range(3):
        support = torch.cat([tasks.support_x[i], tasks.support_x[i].flip(-1)])
        network = adapt(of, FIVE, support, tasks.support_y[i].repeat(2))
        same = adapt(of, FIVE, tasks.support_x[i], tasks.support_y[i], mirror_support=True)
        assert torch.equal(same.theta, network.theta)
        x = tasks.query_x[i]
        logits = (network.outputs(x, norm_stats) + network.outputs(x.flip(-1), norm_stats)) / 2
        loss = torch.nn.functional.cross_entropy(logits, tasks.query_y[i])
        assert found.loss[i, -1] == pytest.approx(loss.item())
        assert found.final[i] == (logits.argmax(-1) == tasks.query_y[i]).double().mean()


def test_other_batches_and_the_last_update_alone_give_the_same() -> None:
    of, tasks = learner(), with_mirrored_support(image_tasks(4, 5, 1, 4))
    every = evaluate(of, FIVE, tasks, mirror_query=True)
    (last,) = judged(of, FIVE, [tasks], cpu_runner(2, workers=2), 3, every_step=False, mirror_query=True)
    assert every.loss.shape == (4, 4) and last.loss.shape == (4, 1)
    assert every.loss[:, -1] == pytest.approx(last.loss[:, 0])


def test_waves_have_no_mirror_images() -> None:
    of = make_learner("maml", MLP((1, 8, 1)))
    waves = SineEpisodes("test", 5, 5, torch.device("cpu"), torch.float64).draw(0, 0, range(2))
    with pytest.raises(ValueError, match="only images"):
        evaluate(of, Regression(), waves, mirror_query=True)


# --- tasks that are drawn -----------------------------------------------------------------------------


@pytest.mark.parametrize("varied", [Augmentation(), Augmentation(2, True, 0.4, cutmix=1.0)])
@pytest.mark.parametrize("rotations", [False, True])
def test_drawn_tasks_are_those_without_and_mirror_images(varied: Augmentation, rotations: bool) -> None:
    pixels = torch.randint(0, 256, (200, 1, 8, 8), generator=generator(0), dtype=torch.uint8)
    one = torch.ones(1, dtype=torch.float64)
    pool = ImagePool(pixels, torch.arange(0, 201, 20), 0 * one, one)
    plain, both = (
        ImageEpisodes(pool, "train", 5, 2, 4, rotations, varied, mirror).draw(1, 2, range(3))
        for mirror in (False, True)
    )
    expected = with_mirrored_support(plain)
    assert both.support_x.shape[1] == 20
    assert all(torch.equal(a, b) for a, b in zip(both.parts, expected.parts, strict=True))

"""The same tasks, forward passes and meta-gradients on a CUDA device as on the CPU."""

import pytest
import torch
from engine_support import image_tasks, make_learner

from pamela_cli.engine.augmentation import Augmentation
from pamela_cli.engine.backbones import MLP, Conv4
from pamela_cli.engine.episodes import ImageEpisodes, ImagePool, SineEpisodes
from pamela_cli.engine.evaluation import concatenate, evaluate
from pamela_cli.engine.graphs import Graphs, times_until_recorded
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.outer_loop import OuterLoop, OuterSettings
from pamela_cli.engine.random import random_bits
from pamela_cli.engine.replaying import drawn
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.engine.tasks import Classification, Regression, Tasks

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    pytest.mark.usefixtures("as_commands_compute"),
]
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
METHODS = [
    ("maml", None),
    ("fomaml", None),
    ("meta-sgd", None),
    ("q-shared", None),
    ("q", None),
    ("pamela", 2),
]


def runner(device: torch.device, at_a_time: int) -> Runner:
    return Runner(Plan(str(device), at_a_time, at_a_time, workers=1, threads=1))


def moved(tasks: Tasks, device: torch.device) -> Tasks:
    fields = (tasks.support_x, tasks.support_y, tasks.query_x, tasks.query_y)
    return Tasks(*(t.to(device) for t in fields))


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.device.type == "cuda"
    assert (found.cpu() - expected).norm() <= 1e-9 * expected.norm()


@pytest.mark.parametrize(("method", "w"), METHODS)
@pytest.mark.parametrize("at_a_time", [1, 4])
def test_meta_gradient_equals_the_cpus(method, w, at_a_time):
    learner, tasks = make_learner(method, Conv4(5, 3, 28, 6), 3, w), image_tasks(4, 5, 1, 3, 3, 28)
    expected = mean_meta_gradient(learner, Classification(5), tasks, runner(CPU, 1))
    found = mean_meta_gradient(
        learner.to(CUDA, torch.float64), Classification(5), moved(tasks, CUDA), runner(CUDA, at_a_time)
    )
    for name in ("theta", "q", "p", "loss"):
        assert_close(getattr(found, name), getattr(expected, name))
    assert found.score.tolist() == expected.score.tolist()


def test_images_beside_the_device_give_the_same_tasks():
    images = torch.randint(256, (60, 3, 20, 20), dtype=torch.uint8)
    offsets = torch.arange(0, 61, 10)
    numbers = torch.full((3,), 0.5, dtype=torch.float64)
    drawn = []
    for where in (CPU, CUDA):
        pool = ImagePool(images.to(where), offsets.to(where), numbers.to(CUDA), numbers.to(CUDA))
        drawn.append(ImageEpisodes(pool, "train", 5, 1, 3, rotations=True).draw(1, 2, range(4)))
    for name in ("support_x", "support_y", "query_x", "query_y"):
        one, other = (getattr(tasks, name) for tasks in drawn)
        assert one.device.type == "cuda"
        assert torch.equal(one, other)


def test_random_bits_equal_the_cpus():
    index = torch.arange(1000)
    assert torch.equal(random_bits(1, 2, index.to(CUDA)).cpu(), random_bits(1, 2, index))


def test_scores_with_mirror_images_and_without_equal_the_cpus():
    """By graphs of their own, though the tensors have the same shapes."""
    learner, tasks = make_learner("pamela", Conv4(5, 3, 28, 6), 3, 2), image_tasks(4, 5, 2, 3, 3, 28)
    there, objective, own = learner.to(CUDA, torch.float64), Classification(5), runner(CUDA, 4)
    for mirror in (False, True) * (times_until_recorded(CUDA) + 2):
        (expected,) = evaluate(learner, objective, [tasks], runner(CPU, 1), 3, mirror_query=mirror)
        (found,) = evaluate(there, objective, [moved(tasks, CUDA)], own, 3, mirror_query=mirror)
        assert found.loss == pytest.approx(expected.loss, rel=1e-9)
        assert (found.score == expected.score).all()
    assert own.graphs.refused is None and len(own.graphs._recorded) == 2


@pytest.mark.parametrize("varied", [Augmentation(), Augmentation(2, flip=True)])
@pytest.mark.parametrize("rotations", [False, True])
def test_image_tasks_drawn_equal_the_cpus(rotations, varied):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (120, 3, 8, 8), generator=generator, dtype=torch.uint8)
    offsets = torch.arange(0, 121, 12)
    mean, std = torch.full((3,), 0.5, dtype=torch.float64), torch.full((3,), 0.25, dtype=torch.float64)
    drawn = []
    # The last has its images in host memory, as splits that do not fit on the device.
    for at, images_at in ((CPU, CPU), (CUDA, CUDA), (CUDA, CPU)):
        pool = ImagePool(images.to(images_at), offsets.to(at), mean.to(at), std.to(at))
        source = ImageEpisodes(pool, "train", 5, 1, 6, rotations, varied)
        drawn.append(source.draw(3, 7, range(4)))
    for other in drawn[1:]:
        assert other.support_x.device.type == "cuda"
        back = moved(other, CPU)
        assert torch.equal(back.support_x, drawn[0].support_x)
        assert torch.equal(back.query_x, drawn[0].query_x)
        assert torch.equal(back.query_y, drawn[0].query_y)


def test_colours_of_images_are_varied_as_on_the_cpu():
    images = torch.randint(0, 256, (120, 3, 8, 8), dtype=torch.uint8)
    offsets, numbers = torch.arange(0, 121, 12), torch.full((3,), 0.5, dtype=torch.float64)
    drawn = []
    for at in (CPU, CUDA):
        pool = ImagePool(images.to(at), offsets.to(at), numbers.to(at), numbers.to(at))
        source = ImageEpisodes(pool, "train", 5, 1, 6, augmentation=Augmentation(color_jitter=0.4))
        drawn.append(source.draw(3, 7, range(4)).query_x.cpu())
    torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("even", [False, True])
def test_sine_tasks_drawn_equal_the_cpus(even):
    cpu, cuda = (
        SineEpisodes("test", 5, 10, d, torch.float64, even).draw(0, 0, torch.arange(4)) for d in (CPU, CUDA)
    )
    back = moved(cuda, CPU)
    assert torch.equal(back.support_x, cpu.support_x)
    torch.testing.assert_close(back.query_x, cpu.query_x, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(back.query_y, cpu.query_y, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("norm_stats", ["query", "support"])
def test_scores_equal_the_cpus(norm_stats):
    learner, tasks = make_learner("pamela", Conv4(5, 3, 28, 6), 3, 2), image_tasks(4, 5, 1, 3, 3, 28)
    expected, found = (
        concatenate(
            evaluate(
                learner.to(d, torch.float64),
                Classification(5),
                [moved(tasks, d)],
                runner(d, 2),
                3,
                norm_stats,
            )
        )
        for d in (CPU, CUDA)
    )
    assert abs(found.loss - expected.loss).max() <= 1e-9
    assert (found.score == expected.score).all()


def test_training_follows_the_cpus_and_skips_what_is_not_finite():
    settings = OuterSettings(6, 4, meta_lr=1e-2, phi_lr=1e-3, clip=10.0, schedule="cosine")
    loops = []
    for device in (CPU, CUDA):
        learner = make_learner("pamela", MLP((1, 6, 6, 1)), 3, 2, lr=0.02).to(device, torch.float64)
        loop = OuterLoop(learner, Regression(), runner(device, 4), settings, seed=0)
        skipped = [m.skipped.item() for m in loop.run(Interrupted(device))]
        assert skipped == [0, 0, 1, 0, 0, 0]
        loops.append(loop)
    for name, tensor in loops[0].parameters().items():
        torch.testing.assert_close(loops[1].parameters()[name].cpu(), tensor, rtol=1e-7, atol=1e-9)
    for name, tensor in loops[0].state().items():
        torch.testing.assert_close(loops[1].state()[name].cpu(), tensor, rtol=1e-7, atol=1e-9)


class Interrupted:
    """Sine waves, with a target that is no number at step 2."""

    def __init__(self, device: torch.device) -> None:
        self.waves = SineEpisodes("train", 5, 10, device, torch.float64)

    def draw(self, seed: int, step: int, indices: torch.Tensor) -> Tasks:
        tasks = self.waves.draw(seed, step, indices)
        if step == 2:
            tasks.query_y[0, 0] = float("nan")
        return tasks


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("at_a_time", [3, 4])
@pytest.mark.parametrize("kind", ["images", "sine"])
def test_a_graph_replays_to_the_same_bits(kind, at_a_time, dtype):
    plain, recorded = runner(CUDA, at_a_time), runner(CUDA, at_a_time)
    plain.graphs.wanted = False
    learners = []
    objective = Classification(5) if kind == "images" else Regression()
    for each in (plain, recorded):
        network = Conv4(5, 3, 28, 6) if kind == "images" else MLP((1, 8, 1))
        learner = make_learner("pamela", network, 3, 2, lr=0.02).to(CUDA, dtype)
        learners.append(learner)
        for step in range(times_until_recorded(CUDA) + 2):
            if kind == "images":
                tasks = moved(image_tasks(4, 5, 1, 3, 3, 28, seed=step), CUDA)
                tasks = Tasks(
                    tasks.support_x.to(dtype), tasks.support_y, tasks.query_x.to(dtype), tasks.query_y
                )
            else:
                tasks = SineEpisodes("train", 5, 5, CUDA, dtype).draw(0, step, range(4))
            found = mean_meta_gradient(learner, objective, tasks, each)
            learner.theta -= 0.01 * found.theta
            learner.q -= 0.01 * found.q
    assert recorded.graphs.refused is None
    assert len(recorded.graphs._recorded) == (1 if at_a_time == 4 else 2)
    assert torch.equal(learners[0].theta, learners[1].theta)
    assert torch.equal(learners[0].q, learners[1].q)


@pytest.mark.parametrize("varied", [Augmentation(), Augmentation(2, flip=True, cutmix=0.5)])
@pytest.mark.parametrize(("rotations", "mirror_support"), [(False, False), (True, False), (False, True)])
def test_tasks_drawn_by_a_graph_equal_the_cpus(rotations, mirror_support, varied):
    images, offsets = torch.randint(0, 256, (600, 3, 84, 84), dtype=torch.uint8), torch.arange(0, 601, 60)
    numbers = torch.full((3,), 0.5, dtype=torch.float64)
    sources = []
    for at in (CPU, CUDA):
        pool = ImagePool(images.to(at), offsets.to(at), numbers.to(at), numbers.to(at))
        sources.append(ImageEpisodes(pool, "train", 5, 1, 6, rotations, varied, mirror_support))
    own = runner(CUDA, 4)
    found = [drawn(own, sources[1], 3, step, range(4)) for step in range(times_until_recorded(CUDA) + 3)]
    assert own.drawing.refused is None and len(own.drawing._trusted) == 1
    for step, tasks in enumerate(found):
        back, expected = moved(tasks, CPU), sources[0].draw(3, step, range(4))
        for name in ("support_x", "support_y", "query_x", "query_y"):
            assert torch.equal(getattr(back, name), getattr(expected, name))


def test_what_cannot_be_recorded_breaks_nothing():
    """Work that asks the device for a number breaks the recording off."""
    graphs, stream = Graphs(CUDA), torch.cuda.current_stream(CUDA)
    numbers = [torch.tensor([1.0 + i], device=CUDA) for i in range(8)]
    with pytest.warns(RuntimeWarning, match="CUDA graphs cannot be used"):
        found = [graphs.call("x", lambda t: (t * t.sum().item(),), t)[0].item() for t in numbers]
    assert found == [(1.0 + i) ** 2 for i in range(8)]
    assert graphs.refused is not None
    assert torch.cuda.current_stream(CUDA) == stream
    torch.cuda.empty_cache()
    torch.ones(1 << 20, device=CUDA).sum().item()

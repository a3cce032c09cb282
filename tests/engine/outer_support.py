"""Outer loops small enough to be followed."""

import torch
from engine_support import cpu_runner, make_learner
from torch import Tensor

from pamela_cli.engine.backbones import MLP
from pamela_cli.engine.episodes import SineEpisodes
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.outer_loop import OuterLoop, OuterSettings
from pamela_cli.engine.tasks import Regression, Tasks

SETTINGS = OuterSettings(
    iterations=10, meta_batch=4, meta_lr=1e-2, phi_lr=1e-3, clip=0.0, schedule="constant"
)


class Listed:
    """Tasks that a test names: those of step k at place k, the last ones from then on."""

    def __init__(self, *batches: Tasks) -> None:
        self.batches = batches
        self.asked: list[tuple[int, int, list[int]]] = []

    def draw(self, seed: int, step: int, indices: range) -> Tasks:
        self.asked.append((seed, step, list(indices)))
        return self.batches[min(step, len(self.batches) - 1)]


def sines(dtype: torch.dtype = torch.float64) -> SineEpisodes:
    return SineEpisodes("train", 5, 10, torch.device("cpu"), dtype)


def small_learner(method: str = "pamela", w: int | None = 2) -> Learner:
    return make_learner(method, MLP((1, 6, 6, 1)), 3, w, lr=0.02)


def outer(learner: Learner, settings: OuterSettings = SETTINGS, seed: int = 0) -> OuterLoop:
    return OuterLoop(learner, Regression(), cpu_runner(2), settings, seed)


def take(loop: OuterLoop, source, steps: int) -> list:
    run = loop.run(source)
    return [next(run) for _ in range(steps)]


def snapshot(loop: OuterLoop) -> dict[str, Tensor]:
    tensors = {"theta": loop.learner.theta, "q": loop.learner.q, "p": loop.learner.p} | loop.state()
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def assert_same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name


def gradients_now(learner: Learner, tasks: Tasks) -> dict[str, Tensor]:
    found = mean_meta_gradient(learner, Regression(), tasks, cpu_runner(2))
    return {name: getattr(found, name) for name in ("theta", "q", "p")}

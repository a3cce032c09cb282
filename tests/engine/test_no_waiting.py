"""An outer step on a device never asks it for a number: the host would wait for all work before.

Checked without a GPU, on tensors of PyTorch's that have a shape but no content, the device "meta": the engine
treats it as any device but the CPU, and to ask one of its tensors for a number is an error.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from engine_support import make_learner
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pamela_cli.engine import outer_loop
from pamela_cli.engine.augmentation import Augmentation
from pamela_cli.engine.backbones import MLP, Conv4
from pamela_cli.engine.episodes import ImageEpisodes, ImagePool, SineEpisodes
from pamela_cli.engine.outer_loop import OuterLoop, OuterSettings
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.engine.tasks import Classification, Regression

DEVICE = torch.device("meta")

SOURCES = [(False, Augmentation()), (True, Augmentation()), (False, Augmentation(2, True, 0.4, 0.5))]
"""Whether classes are turned, and how images are varied."""


class Devices(TorchDispatchMode):
    """Counts the operations, and notes those that make a tensor elsewhere, or need a compiler on CUDA."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.elsewhere: list[str] = []
        self.need_compiler: list[str] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        self.operations += not operation.is_view
        if isinstance(out, Tensor) and out.device != DEVICE and out.dim():
            self.elsewhere.append(str(operation))
        if operation is torch.ops.aten.bmm.default and args[0].shape[2] == 1:
            self.need_compiler.append(str(operation))
        return out


def moved(thing):
    """An object with each of its tensors on the device."""
    tensors = {name: value for name, value in vars(thing).items() if isinstance(value, Tensor)}
    vars(thing).update({name: tensor.to(DEVICE) for name, tensor in tensors.items()})
    return thing


def image_source(rotations: bool, varied: Augmentation) -> ImageEpisodes:
    numbers = torch.zeros(3, dtype=torch.float64)
    images = torch.zeros(60, 3, 20, 20, dtype=torch.uint8)
    pool = moved(ImagePool(images, torch.arange(0, 61, 10), numbers, numbers))
    source = ImageEpisodes(replace_offsets(pool), "train", 5, 1, 3, rotations, varied)
    source.pool = pool
    return moved(source)


def replace_offsets(pool: ImagePool) -> ImagePool:
    return replace(pool, offsets=torch.arange(0, 61, 10))


def step(monkeypatch, learner, source, objective, meta_batch: int = 4) -> Devices:
    """Take one outer step; Adam's own kernel does not know the device, and is left out."""
    monkeypatch.setattr(outer_loop.Adam, "step", lambda *_: None)
    settings = OuterSettings(10, meta_batch, meta_lr=1e-3, phi_lr=1e-4, clip=10.0, schedule="cosine")
    runner = Runner(Plan("meta", meta_batch, meta_batch, 1, 1))
    loop = OuterLoop(moved(learner), objective, runner, settings, seed=1)
    with Devices() as devices:
        metrics = next(loop.run(source)).stacked()
    assert metrics.device == DEVICE
    return devices


@pytest.mark.parametrize(("rotations", "varied"), SOURCES)
@pytest.mark.parametrize("method", ["maml", "fomaml", "meta-sgd", "pamela"])
def test_of_images(
    method: str, rotations: bool, varied: Augmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = 1 if method == "pamela" else None
    counts = []
    for meta_batch in (2, 8):
        learner = make_learner(method, Conv4(5, 3, 20, 4), 3, w)
        devices = step(monkeypatch, learner, image_source(rotations, varied), Classification(5), meta_batch)
        assert devices.elsewhere == [] and devices.need_compiler == []
        counts.append(devices.operations)
    assert counts[0] == counts[1], "all tasks go through each operation together"


@pytest.mark.parametrize(("rotations", "varied"), SOURCES)
def test_of_images_beside_the_device(
    rotations: bool, varied: Augmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they are too many for it, tasks are drawn beside it, and go there."""
    numbers = torch.zeros(3, dtype=torch.float64, device=DEVICE)
    images = torch.zeros(60, 3, 20, 20, dtype=torch.uint8)
    pool = ImagePool(images, torch.arange(0, 61, 10), numbers, numbers)
    source = ImageEpisodes(pool, "train", 5, 1, 3, rotations, varied)
    tasks = source.draw(1, 2, range(4))
    for part in (tasks.support_x, tasks.support_y, tasks.query_x, tasks.query_y):
        assert part.device == DEVICE
    assert tasks.query_x.shape == (4, 15, 3, 20, 20)
    step(monkeypatch, make_learner("pamela", Conv4(5, 3, 20, 4), 3, 1), source, Classification(5))


@pytest.mark.parametrize("step_at", [0, torch.empty((), dtype=torch.int64, device=DEVICE)])
@pytest.mark.parametrize(("rotations", "varied"), SOURCES)
def test_drawing_may_be_told_the_step_by_the_device(rotations: bool, varied: Augmentation, step_at) -> None:
    """As it is where drawing is recorded as a graph."""
    source = image_source(rotations, varied)
    with Devices() as devices:
        tasks = source.draw(2**62, step_at, range(1, 4))
    assert devices.elsewhere == []
    assert tasks.query_x.device == DEVICE


@pytest.mark.parametrize("shot", [1, 5])
def test_of_sine_waves(shot: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SineEpisodes("train", shot, 5, DEVICE, torch.float64)
    learner = make_learner("pamela", MLP((1, 8, 1)), 3, 1)
    devices = step(monkeypatch, learner, source, Regression())
    assert devices.elsewhere == [] and devices.need_compiler == []


def test_to_ask_would_be_noticed() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        bool(torch.ones(1, device=DEVICE) > 0)

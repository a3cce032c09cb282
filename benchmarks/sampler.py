"""What drawing and gathering tasks costs beside the step they are drawn for."""

from __future__ import annotations

import torch

from benchmarks.measures import Measure, seconds
from benchmarks.ours import pamela
from benchmarks.setting import Setting
from pamela_cli.engine.device import synchronise, use_precision
from pamela_cli.engine.episodes import ImageEpisodes, ImagePool
from pamela_cli.engine.graphs import times_until_recorded
from pamela_cli.engine.tasks import Tasks

SHARE = 2.0
"""Per cent of a step that sampling may cost."""


def random_pool(setting: Setting, classes: int, images: int) -> ImagePool:
    """A split of random images on the device; miniImageNet's training split has 64 classes of 600."""
    size = (classes * images, setting.channels, setting.image_size, setting.image_size)
    device = torch.device(setting.device)
    pixels = torch.randint(0, 256, size, dtype=torch.uint8, device=device)
    offsets = torch.arange(0, classes * images + 1, images, device=device)
    half = torch.full((setting.channels,), 0.5, dtype=setting.dtype, device=device)
    return ImagePool(pixels, offsets, half, half)


def measure(setting: Setting, repetitions: int, classes: int = 64, images: int = 600) -> list[Measure]:
    """Draw a meta-batch and take its meta-gradient, in turns."""
    use_precision(setting.precision)
    engine, device = pamela(setting), torch.device(setting.device)
    pool = random_pool(setting, classes, images)
    source = ImageEpisodes(pool, "train", setting.way, setting.shot, setting.query)
    draws, steps = [], []

    def draw(step: int) -> Tasks:
        tasks = source.draw(setting.seed, step, range(setting.meta_batch))
        synchronise(device)
        return tasks

    def train(tasks: Tasks) -> None:
        engine.meta_gradient(tasks)
        synchronise(device)

    for _ in range(times_until_recorded(device)):  # a warm-up
        train(draw(0))
    for step in range(1, repetitions + 1):
        draws.append(1000 * seconds(lambda step=step: draw(step)))  # type: ignore[misc]
        tasks = draw(step)
        steps.append(1000 * seconds(lambda tasks=tasks: train(tasks)))  # type: ignore[misc]
    size = f"{setting.image_size}×{setting.image_size}, {setting.way}-way {setting.shot}-shot"
    shares = [100 * draw / (draw + step) for draw, step in zip(draws, steps, strict=True)]
    return [
        Measure.of(f"draw and gather {setting.meta_batch} tasks, {size}", draws, "ms"),
        Measure.of(f"their meta-gradient, {size}", steps, "ms"),
        Measure.of(f"share of sampling in a step, {size}", shares, "%", SHARE),
    ]

"""Tasks drawn from images held on the device, or from sine waves.

Every draw is a function of (seed, split, step, index in the global meta-batch) alone, so that resuming
and multiple processes need no state, and a task is the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Protocol

import torch
from torch import Tensor

from pamela_cli.engine.augmentation import NO_AUGMENTATION, Augmentation
from pamela_cli.engine.mirror import with_mirrored_support
from pamela_cli.engine.random import random_bits, random_uniform
from pamela_cli.engine.tasks import Tasks

STREAMS = {"train": 1, "val": 2, "test": 3}
"""The first coordinate of every draw's address: splits never share random numbers."""


Indices = range | Tensor
"""Places in a meta-batch, (T,). A ``range`` is made on any device; a tensor elsewhere must be waited for."""


Step = int | Tensor
"""A number, or an int64 tensor () on the device, for which the operations are the same at every step."""


class EpisodeSource(Protocol):
    """Where tasks come from.

    One that is ``recordable`` (optional) draws by the same operations at each step, also given as a tensor,
    and waits for no device: a CUDA graph can be made of it.
    """

    def draw(self, seed: int, step: int, indices: Indices) -> Tasks:
        """The T tasks at ``indices`` of the global meta-batch of ``step``."""
        ...


class TooFewError(ValueError):
    """A split has too few classes, or too few images in them, for the tasks asked for."""


def usable_classes(offsets: Tensor, split: str, way: int, images: int, turns: int = 1) -> Tensor:
    """Which classes have ``images`` images for a task, bool (classes,); fewer than ``way`` raise."""
    usable = offsets.diff() >= images
    classes = int(usable.sum()) * turns
    if classes < way:
        raise TooFewError(
            f"the {split} split has {classes} classes with the {images} images (shot + query) that a task "
            f"takes from each, but {way}-way tasks need {way}"
        )
    return usable


@dataclass(frozen=True)
class ImagePool:
    """The images of a split, on the device that tasks are computed on, or in the host's memory.

    ``images`` uint8 (N, C, H, W) sorted by class, and ``offsets`` int64 (classes + 1), are in one place;
    ``mean`` and ``std`` (C,) of the training split, for values in 0…1, are on the device.
    """

    images: Tensor
    offsets: Tensor
    mean: Tensor
    std: Tensor

    def standardised(
        self,
        indices: Tensor,
        turns: Tensor | None = None,
        augmentation: Augmentation = NO_AUGMENTATION,
        numbers: Tensor | None = None,
    ) -> Tensor:
        """Images at ``indices`` (T, B) as (T, B, C, H, W) of the mean's type, turned by 90°·``turns``.

        With ``numbers`` (T, B, ≥ 6) they are augmented by ``augmentation`` before they are standardised.
        """
        raw = self._gathered(indices.to(self.images.device))
        if turns is not None:
            rotated = torch.stack([torch.rot90(raw, k, (-2, -1)) for k in range(4)])
            choice = _sent(turns, raw.device)[None, :, :, None, None, None].expand(1, *raw.shape)
            raw = rotated.gather(0, choice)[0]
        if numbers is None:
            return standardised(raw, self.mean, self.std)
        numbers = _sent(numbers, raw.device)
        values = _values(augmentation.moved(raw, numbers), self.mean)
        return _centred(augmentation.coloured(values, numbers), self.mean, self.std)

    def _gathered(self, indices: Tensor) -> Tensor:
        """The images on the device, which fetches them by itself where they are in the host's memory."""
        device, shape = self.mean.device, (*indices.shape, *self.images.shape[1:])
        if self.images.device == device:
            return self.images[indices]
        return _sent(self.images.index_select(0, indices.flatten()), device).view(shape)


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """``values`` on the device, which fetches them by itself where they are in the host's memory."""
    if values.device.type == "cpu" and device.type == "cuda":
        values = values.pin_memory()  # from there it can fetch while the host goes on
    return values.to(device, non_blocking=True)


def _placed(indices: Indices, device: torch.device) -> Tensor:
    """``indices`` (T,) on the device."""
    if isinstance(indices, Tensor):
        return indices.to(device)
    return torch.arange(indices.start, indices.stop, indices.step, device=device)


def standardised(raw: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Images uint8 (…, C, H, W) as inputs of the type of ``mean`` and ``std`` (C,), which are for 0…1."""
    return _centred(_values(raw, mean), mean, std)


def _values(raw: Tensor, like: Tensor) -> Tensor:
    """Bytes as numbers in 0…1, of the type of ``like``."""
    # By a number, CUDA would multiply with the rounded 1/255; by a tensor it divides, as the CPU does.
    return raw.to(like.dtype) / like.new_full((), 255)


def _centred(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Values in 0…1 (…, C, H, W), with the mean and the deviation of the training images taken out."""
    shape = (-1, 1, 1)
    return (values - mean.view(shape)) / std.view(shape)


class ImageEpisodes:
    """M-way tasks from an :class:`ImagePool`: ``shot`` support and ``query`` query images a class.

    Classes with fewer than ``shot + query`` images are left out. With ``rotations`` each class counts
    four times, rotated by 0°, 90°, 180° and 270°. ``augmentation`` varies the images that are drawn. With
    ``mirror_support`` the support set is followed by its mirror images: twice as many to adapt to.
    """

    def __init__(
        self,
        pool: ImagePool,
        split: str,
        way: int,
        shot: int,
        query: int,
        rotations: bool = False,
        augmentation: Augmentation = NO_AUGMENTATION,
        mirror_support: bool = False,
    ) -> None:
        self.pool, self.way, self.shot, self.query = pool, way, shot, query
        self.augmentation, self.mirror_support = augmentation, mirror_support
        side = min(pool.images.shape[-2:])
        if not augmentation.fits(side):
            raise ValueError(f"crop must be at most half the side of the images, which is {side} pixels")
        self._stream = STREAMS[split]
        counts = pool.offsets.diff()
        usable = usable_classes(pool.offsets, split, way, shot + query, 4 if rotations else 1)
        self.left_out = int((~usable).sum())
        self._starts = pool.offsets[:-1][usable]
        self._counts = counts[usable]
        self._turns = 4 if rotations else 1
        self._largest = int(counts.max())

    @property
    def recordable(self) -> bool:
        """Whether the images are where the tasks are drawn, rather than fetched by the host."""
        return self.pool.images.device == self.pool.mean.device

    def draw(self, seed: int, step: Step, indices: Indices) -> Tasks:
        """Tasks with classes and images drawn without replacement."""
        device = self._starts.device
        index = _placed(indices, device)[:, None]
        classes = len(self._starts) * self._turns
        keys = random_bits(self._stream, seed, step, index, 0, torch.arange(classes, device=device))
        chosen = keys.topk(self.way, largest=False).indices
        turns = chosen // len(self._starts) if self._turns > 1 else None
        chosen = chosen % len(self._starts)
        # The smallest keys among a class's images are a sample of them without replacement.
        position = torch.arange(self._largest, device=device)
        slot = torch.arange(1, self.way + 1, device=device)[:, None]
        keys = random_bits(self._stream, seed, step, index[:, :, None], slot, position)
        keys = keys.masked_fill(position >= self._counts[chosen][:, :, None], torch.iinfo(torch.int64).max)
        each = self.shot + self.query
        picked = keys.topk(each, largest=False).indices  # in order of the keys; a sort would take far longer
        numbers = None
        if self.augmentation:
            numbers = self.augmentation.draw(seed, step, index[:, :, None], self.way * each)
            numbers = numbers.unflatten(1, (self.way, each))
        return self.gather(self._starts[chosen][:, :, None] + picked, turns, numbers)

    def gather(self, rows: Tensor, turns: Tensor | None = None, numbers: Tensor | None = None) -> Tasks:
        """Tasks from image indices (T, way, shot + query), support columns first, in order of class.

        Classes are turned by 90°·``turns`` (T, way), images varied by ``numbers`` (T, way, each, ≥ 6).
        """
        columns = (slice(None, self.shot), slice(self.shot, None))
        given = [None if numbers is None else self._given(numbers[:, :, part]) for part in columns]
        (support_x, support_y), (query_x, query_y) = (
            self._part(rows[:, :, part], turns, varied) for part, varied in zip(columns, given, strict=True)
        )
        if given[1] is not None and self.augmentation.cutmix:
            query_x, query_y = self.augmentation.mixed(query_x, query_y, given[1], rows.shape[1])
        drawn = Tasks(support_x, support_y, query_x, query_y)
        return with_mirrored_support(drawn) if self.mirror_support else drawn

    def _given(self, numbers: Tensor) -> Tensor:
        """Random numbers (T, way, each, …) by image, (T, way · each, …), on the device."""
        return _sent(numbers.flatten(1, 2), self.pool.mean.device)

    def _part(self, rows: Tensor, turns: Tensor | None, varied: Tensor | None) -> tuple[Tensor, Tensor]:
        """The images at ``rows`` (T, way, each), and their classes (T, way · each)."""
        tasks, way, each = rows.shape
        labels = torch.arange(way, device=self.pool.mean.device).repeat_interleave(each).expand(tasks, -1)
        angle = None if turns is None else turns.repeat_interleave(each, dim=1)
        return self.pool.standardised(rows.flatten(1), angle, self.augmentation, varied), labels


@dataclass(frozen=True)
class SineEpisodes:
    """Waves y = A·sin(ωx + φ) to fit from ``shot`` points (paper section 4.2).

    A ∈ [0.1, 5], ω ∈ [0.8, 1.2], φ ∈ [0, π], x ∈ [−5, 5]. The query is ``query`` random points, or
    that many evenly spaced ones with ``even_query``.
    """

    split: str
    shot: int
    query: int
    device: torch.device
    dtype: torch.dtype
    even_query: bool = False
    recordable = True

    def waves(self, seed: int, step: Step, indices: Indices) -> Tensor:
        """Amplitude, frequency and phase of the waves, (T, 3) float64."""
        index = _placed(indices, self.device)[:, None]
        which = torch.arange(3, device=self.device)
        drawn = random_uniform(STREAMS[self.split], seed, step, index, 0, which).unbind(-1)
        # As Python numbers: to make a tensor of them on a GPU would mean waiting for it.
        bounds = ((0.1, 5.0), (0.8, 1.2), (0.0, pi))
        return torch.stack([a + (b - a) * each for (a, b), each in zip(bounds, drawn, strict=True)], -1)

    def draw(self, seed: int, step: Step, indices: Indices) -> Tasks:
        """Tasks whose inputs and targets are (T, points, 1)."""
        amplitude, frequency, phase = self.waves(seed, step, indices)[:, None].unbind(-1)
        index = _placed(indices, self.device)[:, None]
        points = torch.arange(self.shot + self.query, device=self.device)
        x = random_uniform(STREAMS[self.split], seed, step, index, 1, points) * 10 - 5
        if self.even_query:
            even = torch.linspace(-5, 5, self.query, dtype=torch.float64, device=self.device)
            x = torch.cat([x[:, : self.shot], even.expand(len(indices), -1)], dim=1)
        y = amplitude * torch.sin(frequency * x + phase)
        x, y = x[..., None].to(self.dtype), y[..., None].to(self.dtype)
        k = self.shot
        return Tasks(x[:, :k], y[:, :k], x[:, k:], y[:, k:])

"""What a run is about, built from its settings: the network, the objective, and the tasks.

This is the only place where a store of images, or sine waves, become tensors on a device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import prod

import torch
from torch import Tensor

from data_prep.preparation import Preparation
from data_prep.resizing import resized
from data_prep.store import Split, Store
from pamela_cli.config import SINE, Config, Recorded
from pamela_cli.engine.augmentation import Augmentation
from pamela_cli.engine.backbones import MLP, Backbone, Conv4
from pamela_cli.engine.device import number_type
from pamela_cli.engine.episodes import (
    EpisodeSource,
    ImageEpisodes,
    ImagePool,
    SineEpisodes,
    TooFewError,
    usable_classes,
)
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.memory_plan import check_room, free_bytes, images_fit
from pamela_cli.engine.mirror import with_mirrored_support
from pamela_cli.engine.outer_loop import OuterSettings
from pamela_cli.engine.runner import Plan
from pamela_cli.engine.tasks import Classification, Objective, Regression, Tasks
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.errors import PamelaError, UsageError
from pamela_cli.inputs import Inputs
from pamela_cli.measures import SINE_QUERY_POINTS
from pamela_cli.methods import METHODS

IMAGE_SIZES = range(16, 225)


@dataclass(frozen=True)
class TaskSet:
    """A fixed list of tasks of one split: the store's frozen ones, or drawn from ``seed``.

    ``seed`` is None for tasks that nobody chose by seed. ``left_out`` counts classes with too few images.
    """

    source: EpisodeSource
    count: int
    seed: int | None = None
    frozen: Tensor | None = None
    left_out: int = 0

    def batches(self, size: int, share: range | None = None) -> Iterator[Tasks]:
        """The tasks in order, or a share of them, ``size`` at a time."""
        share = range(self.count) if share is None else share
        for start in range(share.start, share.stop, size):
            stop = min(start + size, share.stop)
            if self.frozen is not None and isinstance(self.source, ImageEpisodes):
                yield self.source.gather(self.frozen[start:stop])
            else:
                # Address 0 is that of the fixed tasks of a split: no seed of `evaluate` gives them.
                address = 0 if self.seed is None else self.seed + 1
                yield self.source.draw(address, 0, range(start, stop))


def network(config: Config, images: str = "the run's images") -> Conv4 | MLP:
    """The network that the settings of a run describe, for sine waves or its ``images``."""
    if config.dataset == SINE:
        return MLP((1, config.width, config.width, 1))
    if config.way is None or config.channels is None or config.image_size is None:
        raise PamelaError("the settings lack image_size and channels: they are not those of a complete run.")
    if config.image_size not in IMAGE_SIZES:
        raise PamelaError(
            f"{images} are {config.image_size}×{config.image_size}, but the network takes sides of "
            f"{IMAGE_SIZES[0]} to {IMAGE_SIZES[-1]}; prepare them again with --image-size."
        )
    return Conv4(config.way, config.channels, config.image_size, config.width, config.shared_head)


def of_classes(config: Config, way: int) -> Config:
    """The settings of a run with a shared head, as if trained with at least ``way`` classes."""
    return replace(config, way=max(way, config.way or 0))


def update_rule(config: Config, backbone: Backbone) -> UpdateRule:
    """The update rule that the settings of a run describe."""
    assert config.steps is not None  # filled in where settings are resolved
    return UpdateRule(METHODS[config.method], backbone.layout, config.steps, config.skip_interval)


class Problem:
    """The network, objective and tasks of ``config`` on ``device``, sine waves or images of ``store``.

    Without a store, a run of images can label others, but it has no tasks. ``inputs`` are those of the
    store, unless the network was trained on those of another; images of another size than the network takes
    are resized.
    """

    def __init__(
        self, config: Config, store: Store | None, device: torch.device, inputs: Inputs | None = None
    ) -> None:
        self.config, self.store, self.device = config, store, device
        self.dtype = number_type(config.precision)
        self.is_sine = config.dataset == SINE
        self.backbone = network(config, *([] if store is None else [f"the images of {store.path}"]))
        self.inputs = inputs or (None if store is None else Inputs.of(store))

    @property
    def _opened(self) -> Store:
        if self.store is None:
            raise ValueError("tasks of images are drawn from their store, which was not opened")
        return self.store

    def check(self) -> list[str]:
        """Make sure that every split has enough for the tasks, before anything is loaded or written.

        Returns what the user should know of classes that are left out.
        """
        if self.is_sine:
            return []
        c, notes = self.config, []
        if not Augmentation(c.crop).fits(c.image_size or 0):
            raise UsageError(
                f"--crop {c.crop} is more than half the side of the images, which is "
                f"{c.image_size} pixels; lower it."
            )
        for split in ("train", "val", "test"):
            turns = 4 if c.rotations and split == "train" else 1
            offsets = torch.from_numpy(self._opened.split(split).class_offsets)
            with self._naming_the_store():
                usable = usable_classes(offsets, split, c.way or 0, c.shot + c.query, turns)
            if left_out := int((~usable).sum()):
                images = c.shot + c.query
                notes.append(
                    f"{left_out} classes of {split} have fewer than {images} images and are left out"
                )
        return notes

    def learner(self) -> Learner:
        """A fresh learner on the device, started from the config's seed; DoesNotFitError without room."""
        config = self.config
        rule = update_rule(config, self.backbone)
        check_room("θ, Q and P", 4 * sum(rule.meta_parameters), torch.device("cpu"))
        fresh = Learner.initial(self.backbone, rule, config.inner_lr, config.seed, self.dtype)
        return fresh.to(self.device, self.dtype)

    def objective(self, way: int | None = None) -> Objective:
        """Cross-entropy among ``way`` classes (default: the trained ones), or squared error."""
        if self.is_sine:
            return Regression()
        return Classification(way or self.config.way or 0)

    def recorded(self, plan: Plan) -> Recorded:
        """What a run records beside its settings."""
        inputs = {} if self.inputs is None else {"inputs": self.inputs.record()}
        return {"plan": asdict(plan)} | inputs

    def outer_settings(self) -> OuterSettings:
        """What the outer loop takes of the config."""
        c = self.config
        return OuterSettings(
            c.iterations, c.meta_batch, c.meta_lr, c.phi_lr, c.clip, c.schedule, c.weight_decay
        )

    def image_bytes(self, split: str) -> int:
        """The bytes that the images of a split take where they are loaded."""
        if self.is_sine:
            return 0
        image = (self.config.channels or 0) * (self.config.image_size or 0) ** 2
        return image * len(self._opened.split(split).images)

    def task_shape(
        self,
        way: int | None = None,
        shot: int | None = None,
        query: int | None = None,
        mirror_support: bool = False,
    ) -> Tasks:
        """One task, by default a training task, without content, to know its memory by.

        ``mirror_support`` is as for :meth:`fixed_tasks`.
        """
        c = self.config
        counts = (shot or c.shot, query or c.query)
        if self.is_sine:
            x = [torch.empty(1, count, 1, dtype=self.dtype, device="meta") for count in counts]
            return Tasks(x[0], x[0], x[1], x[1])
        image = (c.channels or 0, c.image_size or 0, c.image_size or 0)
        sizes = [(1, (way or c.way or 0) * count) for count in counts]
        x = [torch.empty(*size, *image, dtype=self.dtype, device="meta") for size in sizes]
        y = [torch.empty(size, dtype=torch.int64, device="meta") for size in sizes]
        task = Tasks(x[0], y[0], x[1], y[1])
        return with_mirrored_support(task) if c.mirror_support or mirror_support else task

    def training_tasks(self) -> EpisodeSource:
        """Tasks of the train split."""
        c = self.config
        if self.is_sine:
            return SineEpisodes("train", c.shot, c.query, self.device, self.dtype)
        varied = Augmentation(c.crop, c.flip, c.color_jitter, c.cutmix)
        with self._naming_the_store():
            pool = self._pool("train")
            return ImageEpisodes(
                pool, "train", c.way or 0, c.shot, c.query, c.rotations, varied, c.mirror_support
            )

    def fixed_tasks(
        self,
        split: str,
        count: int,
        *,
        way: int | None = None,
        shot: int | None = None,
        query: int | None = None,
        seed: int | None = None,
        mirror_support: bool = False,
    ) -> TaskSet:
        """``count`` tasks that are always the same.

        The store's frozen ones serve where they are enough, and neither a seed nor another number of
        queries asks for fresh ones. Sine waves are judged on evenly spaced points. ``mirror_support`` has
        mirror images in the support sets, as they are for a run that was trained so.
        """
        c = self.config
        shot, query = shot or c.shot, query or c.query
        if self.is_sine:
            points = SINE_QUERY_POINTS
            sines = SineEpisodes(split, shot, points, self.device, self.dtype, even_query=True)
            return TaskSet(sines, count, seed)
        way = way or c.way or 0
        with self._naming_the_store():
            source = ImageEpisodes(
                self._pool(split), split, way, shot, query, mirror_support=c.mirror_support or mirror_support
            )
        rows = self._opened.split(split).episodes(way, shot) if seed is None else None
        if rows is None or count > len(rows) or rows.shape[2] != shot + query:
            return TaskSet(source, count, seed, left_out=source.left_out)
        frozen = torch.from_numpy(rows[:count]).long().to(source.pool.images.device)
        return TaskSet(source, count, None, frozen, source.left_out)

    def _pool(self, split: str) -> ImagePool:
        images = self._opened.split(split)
        assert self.inputs is not None  # they are the store's
        return image_pool(images, self.inputs, self.device, self.dtype)

    @contextmanager
    def _naming_the_store(self) -> Iterator[None]:
        try:
            yield
        except TooFewError as error:
            raise PamelaError(f"{self._opened.path}: {error}; lower --way, --shot or --query.") from error


def image_pool(split: Split, inputs: Inputs, device: torch.device, dtype: torch.dtype) -> ImagePool:
    """The images of a split for the device, to be standardised as ``inputs`` say."""
    images = _load_images(split, device, inputs.preparation)
    offsets = torch.from_numpy(split.class_offsets).to(images.device)
    return ImagePool(images, offsets, *inputs.statistics(dtype, device))


def _load_images(split: Split, device: torch.device, how: Preparation) -> Tensor:
    """A split's images as uint8 (N, C, H, W): on the device, or in the host's memory if they don't fit."""
    shape = (len(split.images), how.channels, how.image_size, how.image_size)
    on_host = device.type == "cuda" and not images_fit(prod(shape), free_bytes(device) or 0)
    images = torch.empty(shape, dtype=torch.uint8, device="cpu" if on_host else device)
    done = 0
    for found in split.blocks():
        block = resized(found, how.image_size, how.channels)
        images[done : done + len(block)] = torch.from_numpy(block).permute(0, 3, 1, 2)
        done += len(block)
    return images

"""What is computed: the network, the tasks and the inner loop, the same numbers for every engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import vector_to_parameters

from pamela_cli.complexity.cases import count_flops, make_cases
from pamela_cli.engine.backbones import MLP, Backbone, Conv4
from pamela_cli.engine.device import number_type
from pamela_cli.engine.episodes import SineEpisodes
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.runner import Plan
from pamela_cli.engine.tasks import Classification, Objective, Regression, Tasks
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.methods import METHODS, complete_steps


@dataclass(frozen=True)
class Setting:
    """One piece of work: second-order MAML, ``steps`` updates, on ``meta_batch`` tasks.

    ``network`` "conv4" classifies images; "mlp" fits sine waves, and ``way`` and the image are without
    meaning. ``peer_threads`` are those of PyTorch's operators in the peers; None: all cores for images, and
    one for sine waves, whose tensors are too small to be shared out. ``tuned_peers`` gives the other
    libraries what is not theirs: channels-last tensors on the CPU, and freed memory that is kept.
    """

    network: Literal["conv4", "mlp"] = "conv4"
    image_size: int = 84
    channels: int = 3
    way: int = 5
    shot: int = 1
    query: int = 15
    width: int = 64
    steps: int = 5
    meta_batch: int = 4
    device: str = "cpu"
    precision: Literal["float32", "tf32", "float64"] = "float32"
    inner_lr: float = 0.01
    seed: int = 0
    peer_threads: int | None = None
    tuned_peers: bool = False

    @classmethod
    def sine(cls, **changes: Any) -> Setting:
        """The sine waves of the paper's section 4.2: 10 points, network 1-40-40-1."""
        return replace(cls(network="mlp", shot=10, query=10, width=40), **changes)

    @property
    def dtype(self) -> torch.dtype:
        """Of θ and the inputs."""
        return number_type(self.precision)

    @property
    def convolutional(self) -> bool:
        """Whether the tasks are images."""
        return self.network == "conv4"

    @property
    def channels_last(self) -> bool:
        """Whether the peers' images lie in memory as pooling and batch norm on the CPU like them best."""
        return self.tuned_peers and self.convolutional and self.device == "cpu"

    @property
    def objective(self) -> Objective:
        """The engine's loss."""
        return Classification(self.way) if self.convolutional else Regression()

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """PyTorch's name for the same loss on one task, which the peers use."""
        return F.cross_entropy if self.convolutional else F.mse_loss

    def backbone(self) -> Backbone:
        """The engine's network."""
        if self.convolutional:
            return Conv4(self.way, self.channels, self.image_size, self.width)
        return MLP((1, self.width, self.width, 1))

    def learner(self, method: str) -> Learner:
        """The engine's learner at its start; its θ depends on the seed alone.

        ValueError if the method is none with so many updates.
        """
        backbone = self.backbone()
        rule = UpdateRule(METHODS[method], backbone.layout, *complete_steps(method, self.steps, None))
        fresh = Learner.initial(backbone, rule, self.inner_lr, self.seed, self.dtype)
        return fresh.to(torch.device(self.device), self.dtype)

    def model(self) -> nn.Sequential:
        """The same network and θ as PyTorch's modules; batch norm keeps no running statistics."""
        model = _conv4(self) if self.convolutional else _mlp(self.width)
        model.to(self.device, self.dtype)
        vector_to_parameters(self.learner("maml").theta, model.parameters())
        if self.channels_last:
            for parameter in model.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return model

    def tasks(self, count: int | None = None) -> Tasks:
        """``count`` tasks (None: a meta-batch), the same for all; of images around a mean for each class."""
        count = count or self.meta_batch
        device = torch.device(self.device)
        if not self.convolutional:
            sines = SineEpisodes("train", self.shot, self.query, device, self.dtype)
            return sines.draw(self.seed, 0, range(count))
        generator = torch.Generator().manual_seed(self.seed)
        image = (self.channels, self.image_size, self.image_size)
        images = torch.randn(count, self.way, self.shot + self.query, *image, generator=generator)
        images += torch.randn(count, self.way, 1, *image, generator=generator)
        images = images.to(device, self.dtype)
        labels = torch.arange(self.way, device=device).expand(count, -1)
        return Tasks(
            images[:, :, : self.shot].flatten(1, 2),
            labels.repeat_interleave(self.shot, 1),
            images[:, :, self.shot :].flatten(1, 2),
            labels.repeat_interleave(self.query, 1),
        )

    def tiny(self) -> Setting:
        """The same work at a small size, to load on first use what is loaded on first use."""
        return replace(self, image_size=16, width=4, shot=1, query=1, steps=min(self.steps, 2))

    def flops(self) -> tuple[int, int] | None:
        """Operations of a task in training and testing; of images alone."""
        return _flops(self) if self.convolutional else None


@cache
def _flops(setting: Setting) -> tuple[int, int]:
    names = ("way", "shot", "query", "steps", "width", "image_size", "channels")
    case = make_cases(["maml"], {name: getattr(setting, name) for name in names})[0]
    return count_flops(case, Plan("meta", 1, 1, workers=1, threads=1))


def _conv4(setting: Setting) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (setting.channels, setting.width, setting.width, setting.width):
        layers += [
            nn.Conv2d(channels, setting.width, 3, padding=1),
            nn.BatchNorm2d(setting.width, track_running_stats=False),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    features = setting.width * (setting.image_size >> Conv4.BLOCKS) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, setting.way))


def _mlp(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for into, out in pairwise((1, width, width, 1)):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])

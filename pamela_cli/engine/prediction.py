"""A network adapted to one task, and its outputs for unlabelled inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pamela_cli.engine.backbones import Backbone, NormStats
from pamela_cli.engine.evaluation import NormSource, check_norm_stats
from pamela_cli.engine.inner_loop import Learner, inner_loop
from pamela_cli.engine.mirror import with_mirrored_support
from pamela_cli.engine.once import once
from pamela_cli.engine.tasks import Objective, Tasks


@dataclass(frozen=True)
class Adapted:
    """θ_n (N,) of one task with its network, and batch norm's statistics on the support set."""

    backbone: Backbone
    theta: Tensor
    stats: NormStats

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Adapted parameters by name: load them into a module with ``load_state_dict(…, strict=False)``."""
        return self.backbone.layout.named(self.theta)

    def to(self, device: torch.device) -> Adapted:
        """A copy, which may be elsewhere."""
        stats = [
            (mean.to(device, copy=True), variance.to(device, copy=True)) for mean, variance in self.stats
        ]
        return Adapted(self.backbone, self.theta.to(device, copy=True), stats)

    def outputs(self, x: Tensor, norm_stats: NormSource = "support") -> Tensor:
        """The network's outputs (B, out) for inputs (B, …).

        With "support" each input goes through alone: the other inputs have no influence, not even on the
        rounding. With "query" batch norm normalises them among themselves. ValueError for anything else, and
        for no input at all.
        """
        check_norm_stats(norm_stats)
        if not len(x):
            raise ValueError("x must have at least one input")
        with torch.no_grad():
            if norm_stats == "query":
                return self.backbone(self.theta[None], x[None])[0]
            each = [self.backbone(self.theta[None], one[None, None], self.stats or None)[0] for one in x]
            return torch.cat(each)


def adapted(
    learner: Learner,
    objective: Objective,
    support_x: Tensor,
    support_y: Tensor,
    steps: int | None = None,
    mirror_support: bool = False,
) -> Adapted:
    """Adapt to one task by its support set (S, …), with ``steps`` updates (None: as trained).

    Classes may have unequal numbers of examples: the loss is the mean over all of them. With
    ``mirror_support`` they are images, and their mirror images are examples, too.
    """
    steps = learner.rule.steps if steps is None else steps
    with torch.no_grad(), once.kept():
        x, y = support_x[None], support_y[None]
        tasks = Tasks(x, y, x[:, :0], y[:, :0])
        if mirror_support:
            tasks = with_mirrored_support(tasks)
        for theta in inner_loop(learner, objective, tasks, learner.expand(), steps):
            last = theta
        # Of no update at all it is the learner's own tensor.
        return Adapted(learner.backbone, last[0].clone(), learner.backbone.norm_stats(last, tasks.support_x))

"""The outer loop: Adam on {θ, Q, P}, its schedule, and what keeps it stable (paper eq. 6).

With plain Adam at 1e-3, +Q and PAMELA diverge on sine waves. To prevent that, for every method alike, Q and P
learn ten times slower than θ, the norm of the meta-gradient is clipped, a step whose meta-gradient is not
finite is skipped and counted, and the rates fall to zero over the run (docs/method.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor

from pamela_cli.engine.adam import Adam
from pamela_cli.engine.episodes import EpisodeSource
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.replaying import drawn
from pamela_cli.engine.runner import Runner
from pamela_cli.engine.tasks import Objective


@dataclass(frozen=True)
class OuterSettings:
    """Iterations, tasks in a meta-batch, learning rates of θ and of Φ = {Q, P}, largest norm (0: any).

    ``schedule`` is "cosine" (falling to zero over the run) or "constant". At each step θ loses
    ``weight_decay`` times its rate of itself. Q and P lose nothing: at zero, no task would be learned.
    """

    iterations: int
    meta_batch: int
    meta_lr: float
    phi_lr: float
    clip: float
    schedule: str
    weight_decay: float = 0.0

    def rate(self, step: int) -> float:
        """Factor on the learning rates at ``step`` (counted from 0)."""
        return 1.0 if self.schedule == "constant" else 0.5 * (1 + cos(pi * step / self.iterations))


@dataclass(frozen=True)
class StepMetrics:
    """One outer step, on the device: means over the meta-batch, the unclipped norm, and 1 if skipped."""

    loss: Tensor
    score: Tensor
    gradient_norm: Tensor
    skipped: Tensor

    def stacked(self) -> Tensor:
        """The four numbers as one tensor (4,), to be fetched in one transfer."""
        return torch.stack([self.loss, self.score, self.gradient_norm, self.skipped])


class OuterLoop:
    """A training run in progress: the learner, its optimizer, and the steps done."""

    def __init__(
        self, learner: Learner, objective: Objective, runner: Runner, settings: OuterSettings, seed: int
    ) -> None:
        self.learner, self.objective, self.runner = learner, objective, runner
        self.settings, self.seed = settings, seed
        self.step = 0
        self._rates = {"theta": settings.meta_lr, "q": settings.phi_lr, "p": settings.phi_lr}
        self._adam = Adam(self.parameters(), {"theta": settings.weight_decay})
        self._share = runner.processes.share(settings.meta_batch)

    def parameters(self) -> dict[str, Tensor]:
        """The tensors that are learned: θ always, Q and P where the method has them."""
        tensors = {"theta": self.learner.theta, "q": self.learner.q, "p": self.learner.p}
        return {name: tensor for name, tensor in tensors.items() if tensor.numel()}

    def run(self, source: EpisodeSource) -> Iterator[StepMetrics]:
        """Take the remaining steps, one per item."""
        while self.step < self.settings.iterations:
            yield self._advance(source)

    def _advance(self, source: EpisodeSource) -> StepMetrics:
        tasks = drawn(self.runner, source, self.seed, self.step, self._share)
        meta_batch = self.settings.meta_batch
        mean = mean_meta_gradient(self.learner, self.objective, tasks, self.runner, meta_batch)
        gradients = {name: getattr(mean, name) for name in self.parameters()}
        norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients.values()]))
        clip = self.settings.clip
        factor = (clip / norm).clamp(max=1.0) if clip else torch.ones_like(norm)
        skipped = ~norm.isfinite()
        rate = self.settings.rate(self.step)
        self._adam.step(
            {name: gradient * factor for name, gradient in gradients.items()},
            {name: base * rate for name, base in self._rates.items()},
            skipped.float(),
        )
        self.learner.keep_alike()
        self.step += 1
        return StepMetrics(mean.loss.mean(), mean.score.mean(), norm, skipped.to(norm.dtype))

    def state(self) -> dict[str, Tensor]:
        """Adam's state by name: ``adam.<tensor>.<moment>``. With the learner and ``step`` it is all."""
        return self._adam.state()

    def load_state(self, state: dict[str, Tensor], step: int) -> None:
        """Continue from ``step`` with a :meth:`state`; :class:`CheckpointError` if it does not fit."""
        self._adam.load(state)
        self.step = step
